//! `combo check`: whether this machine can run Combo, and what to do where it cannot.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use host::{Finding, HostFacts, Installation, Level, Question, Role, ServiceSettings};

#[derive(Args)]
pub(crate) struct CheckCommand {
    /// How to print the findings
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    /// Print only what is wrong, and refuse in the words of an installation
    #[arg(long)]
    install: bool,
    /// An installed service: its command, if none is given
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The command that will run here, for its ports and its data folder: `-- agent --kubelet-port
    /// 11250`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

impl CheckCommand {
    /// Fails if something is an error; warnings are for people.
    pub(crate) fn run(self) -> ExitCode {
        let command = self.command();
        let role = match command.first().map(String::as_str) {
            Some("agent") => Role::Agent,
            _ => Role::Server,
        };
        let settings = ServiceSettings::said(&command, &std::env::vars().collect());
        let findings = host::findings(&HostFacts::read(&Question {
            ports: settings.ports(role),
            data_dir: settings.data_dir,
        }));
        let is_fit = findings.iter().all(|finding| finding.level < Level::Error);
        match self.output {
            Output::Text if self.install => print_wrong(&findings),
            Output::Text => print_all(&findings),
            Output::Json => {
                let text = serde_json::to_string_pretty(&findings);
                println!("{}", text.expect("findings can be written as JSON"));
            }
        }
        if is_fit {
            return ExitCode::SUCCESS;
        }
        if self.install {
            eprintln!("combo: it is not installed: this machine cannot run it as it is");
        }
        ExitCode::FAILURE
    }
}

impl CheckCommand {
    fn command(&self) -> Vec<String> {
        let installed = self.service.as_deref().map(Installation::find);
        match installed {
            // A record that cannot be read is told by what installs or removes; here it stops
            // nothing.
            Some(Ok(Some(installation))) if self.command.is_empty() => installation.arguments,
            _ => self.command.clone(),
        }
    }
}

fn print_all(findings: &[Finding]) {
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        println!("{level:<8} {:<22} {}", finding.check, finding.message);
        if let Some(fix) = &finding.fix {
            println!("{:<8} {:<22} fix: {fix}", "", "");
        }
    }
}

fn print_wrong(findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
        let level = if finding.level == Level::Error {
            "error"
        } else {
            "warning"
        };
        eprintln!("{level}: {}: {}", finding.check, finding.message);
        if let Some(fix) = &finding.fix {
            eprintln!("  fix: {fix}");
        }
    }
}
