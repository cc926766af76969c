//! The file that an init system starts a service by: those of `systemd/`, with what is special
//! about one installation.

use std::path::Path;

use crate::installation::{Init, Installation, Role};

const SYSTEMD_SERVER: &str = include_str!("../../../systemd/combo.service");
const SYSTEMD_AGENT: &str = include_str!("../../../systemd/combo-agent.service");
const OPENRC: &str = include_str!("../../../systemd/combo.openrc");

impl Installation {
    /// The text of the file; `kind` is systemd's `Type=`.
    pub fn service_file(&self, binary: &Path, kind: &str) -> String {
        let binary = binary.display().to_string();
        let environment = self.environment.display().to_string();
        match self.init {
            Init::Systemd => {
                let template = match self.role {
                    Role::Server => SYSTEMD_SERVER,
                    Role::Agent => SYSTEMD_AGENT,
                };
                systemd(template, &binary, &self.arguments, &environment, kind)
            }
            Init::Openrc => openrc(&binary, &self.arguments, &environment),
        }
    }
}

fn systemd(
    template: &str,
    binary: &str,
    arguments: &[String],
    environment: &str,
    kind: &str,
) -> String {
    let mut text = String::new();
    for line in template.lines() {
        if line.starts_with("ExecStart=") {
            let words = std::iter::once(binary).chain(arguments.iter().map(String::as_str));
            let words: Vec<String> = words.map(systemd_word).collect();
            text.push_str(&format!(
                "EnvironmentFile=-{}\n",
                environment.replace('%', "%%")
            ));
            text.push_str(&format!("ExecStart={}\n", words.join(" ")));
        } else if line.starts_with("Type=") {
            text.push_str(&format!("Type={kind}\n"));
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn openrc(binary: &str, arguments: &[String], environment: &str) -> String {
    let mut text = String::new();
    for line in OPENRC.lines() {
        if line.starts_with("command=") {
            text.push_str(&format!("command={}\n", shell_word(binary)));
        } else if line.starts_with("command_args=") {
            // The text is a shell's twice: here, and where the service is started.
            let words: Vec<String> = arguments.iter().map(|word| shell_word(word)).collect();
            text.push_str(&format!("command_args={}\n", shell_word(&words.join(" "))));
        } else {
            text.push_str(line);
            text.push('\n');
        }
        if line == "set -o allexport" {
            let file = shell_word(environment);
            text.push_str(&format!("[ ! -f {file} ] || . {file}\n"));
        }
    }
    text
}

fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=,@+".contains(&byte))
}

/// A word as `ExecStart=` reads it: `%` and `$` stand for themselves when doubled.
fn systemd_word(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '%' | '$' => out.extend([letter, letter]),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn shell_word(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &[&str] = &["agent", "--node-label", "a=$b 100% \"x\"", "--it's"];

    fn arguments() -> Vec<String> {
        ARGUMENTS.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_unit_keeps_all_of_the_template_but_what_is_special() {
        let unit = systemd(
            SYSTEMD_AGENT,
            "/opt/bin/combo",
            &arguments(),
            "/e/x.env",
            "exec",
        );
        assert!(unit.contains(
            "\nEnvironmentFile=-/e/x.env\nExecStart=/opt/bin/combo agent --node-label \"a=$$b 100%% \\\"x\\\"\" \"--it's\"\n"
        ));
        for line in [
            "Type=exec",
            "KillMode=process",
            "Delegate=yes",
            "LimitNOFILE=1048576",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
        assert!(!unit.contains("Type=notify"));
    }

    #[test]
    fn a_shell_reads_the_words_of_an_openrc_script_as_they_were() {
        let script = openrc("/opt/my bin/combo", &arguments(), "/e/x.env");
        let line = script
            .lines()
            .find(|line| line.starts_with("command_args="))
            .expect("a line");
        let program = format!("{line}\neval \"set -- $command_args\"\nprintf '%s\\n' \"$@\"");
        let done = std::process::Command::new("sh")
            .args(["-c", &program])
            .output()
            .unwrap();
        let words = String::from_utf8(done.stdout).unwrap();
        assert_eq!(words.lines().collect::<Vec<_>>(), ARGUMENTS);
        assert!(script.contains("\ncommand='/opt/my bin/combo'\n"));
        assert!(script.contains("\n[ ! -f /e/x.env ] || . /e/x.env\n"));
    }
}
