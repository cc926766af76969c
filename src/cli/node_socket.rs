//! Commands that ask the node that they are typed on, at the socket in its data folder.

use std::process::ExitCode;

use kubectl::OnNode;

use super::stored::DataDirFlag;

pub(super) fn ask(data_dir: &DataDirFlag, command: OnNode) -> ExitCode {
    match try_to_ask(data_dir, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("combo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_to_ask(data_dir: &DataDirFlag, command: OnNode) -> anyhow::Result<u8> {
    let socket = supervisor::node_socket(&data_dir.folder()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(command.run(&socket));
    // A read of a terminal that nobody types in would keep us here.
    runtime.shutdown_background();
    Ok(code)
}
