//! Tasks around etcd's API: `cargo xtask etcd <task>`.

mod differences;
mod generate;
mod normal;
mod serve;
mod steps;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask etcd <task>

  diff FOLDER         compare what etcdctl prints of etcd and of a store of ours; both programs are in FOLDER
  gen                 make the Rust code of etcd's API from its .proto files
  serve FILE PORT     serve a store of ours to whoever reaches the port on loopback, until the end of the input
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["diff", programs] => differences::run(Path::new(programs)),
        ["gen"] => generate::run(),
        ["serve", file, port] => serve::until_end_of_input(Path::new(file), port),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
