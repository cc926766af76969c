//! `combo kubectl`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// The administrator's kubeconfig, as `combo server` writes it.
const DEFAULT_KUBECONFIG: &str = "/etc/combo/combo.yaml";

#[derive(Args)]
pub(crate) struct KubectlCommand {
    /// The kubeconfig; else /etc/combo/combo.yaml, else ~/.kube/config
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    kubectl: kubectl::Kubectl,
}

impl KubectlCommand {
    pub(crate) fn run(self) -> ExitCode {
        let kubeconfigs = match self.kubeconfig.filter(|path| !path.as_os_str().is_empty()) {
            // Several files in KUBECONFIG are not merged: the first that exists counts.
            Some(paths) => std::env::split_paths(&paths).collect(),
            None => default_kubeconfigs(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                let code = runtime.block_on(kubectl::run(self.kubectl, &kubeconfigs));
                // A read of a terminal that nobody types in would keep us here.
                runtime.shutdown_background();
                ExitCode::from(code)
            }
            Err(error) => {
                eprintln!("error: start the runtime: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn default_kubeconfigs() -> Vec<PathBuf> {
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    std::iter::once(PathBuf::from(DEFAULT_KUBECONFIG))
        .chain(home)
        .collect()
}
