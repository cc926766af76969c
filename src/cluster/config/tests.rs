//! The layers together, as a command line goes through them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Args as _, Command, FromArgMatches as _};

use crate::{AgentFlags, ConfigError, ServerFlags, explain, more_words};

fn server_command() -> Command {
    // Variables of the machine that runs the tests say nothing here.
    ServerFlags::augment_args(Command::new("server").no_binary_name(true))
        .mut_args(|arg| arg.env(clap::builder::Resettable::Reset))
}

/// What holds when these words are typed, k3s' variables say this, and the file of `-c` is `config`.
fn said(words: &[&str], config: &Path) -> Result<ServerFlags, ConfigError> {
    let command = server_command();
    let mut typed: Vec<OsString> = vec!["-c".into(), config.into()];
    typed.extend(words.iter().map(OsString::from));
    let matches = command.clone().try_get_matches_from(&typed).expect("words");
    let mut all = more_words(&command, &matches, &BTreeMap::new())?;
    all.extend(typed);
    let matches = command.try_get_matches_from(all).expect("all words");
    Ok(ServerFlags::from_arg_matches(&matches).expect("flags"))
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("config.yaml.d")).expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Self(folder)
    }

    fn said(&self, words: &[&str]) -> Result<ServerFlags, ConfigError> {
        said(words, &self.0.path().join("config.yaml"))
    }

    fn wrong(&self, words: &[&str]) -> String {
        let error = self.said(words).expect_err("refused").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn the_last_file_wins_and_a_plus_appends() {
    let files = Files::new(&[
        (
            "config.yaml",
            "node-name: a\ntls-san: [a, b]\nnode-label: x=1\ndebug: true\n",
        ),
        (
            "config.yaml.d/10.yaml",
            "node-name: b\ntls-san+: c\nnode-label: [y=2]\n",
        ),
        ("config.yaml.d/20.yml", "tls-san+: [d]\ndebug: false\n"),
        ("config.yaml.d/.30.yaml", "nonsense"),
        ("config.yaml.d/40.txt", "nonsense"),
    ]);
    let flags = files.said(&[]).expect("flags");
    assert_eq!(flags.node.node_name.as_deref(), Some("b"));
    assert_eq!(flags.tls_san, ["a", "b", "c", "d"]);
    assert_eq!(flags.node.node_label, ["y=2"]);
    assert!(!flags.general.debug);
}

#[test]
fn the_command_line_beats_files_and_replaces_whole_lists() {
    let files = Files::new(&[(
        "config.yaml",
        "node-name: a\ntls-san: [a, b]\nhttps-listen-port: 7443\ntoken: filed\nwrite-kubeconfig-mode: 0644\n",
    )]);
    let flags = files
        .said(&["--node-name", "c", "--tls-san", "z", "--token-file", "/t"])
        .expect("flags");
    assert_eq!(flags.node.node_name.as_deref(), Some("c"));
    assert_eq!(flags.tls_san, ["z"]);
    assert_eq!(flags.https_listen_port, Some(7443));
    assert_eq!(flags.write_kubeconfig_mode.as_deref(), Some("0644"));
    assert_eq!((flags.token, flags.token_file), (None, Some("/t".into())));
}

#[test]
fn every_error_names_file_line_and_key() {
    for (text, why) in [
        (
            "\nnode-nam: a\n",
            "line 2: node-nam: there is no such key; node-name is near it",
        ),
        (
            "zzz: a\n",
            "line 1: zzz: there is no such key; `combo server --help` lists them",
        ),
        (
            "https-listen-port: many\n",
            "line 1: https-listen-port: invalid digit found in string",
        ),
        (
            "https-listen-port: [1, 2]\n",
            "line 1: https-listen-port: it has one value, and not a list",
        ),
        (
            "node-name+: a\n",
            "line 1: node-name: + appends to a list, and this flag has one value",
        ),
        (
            "debug: maybe\n",
            "line 1: debug: it is either true or false",
        ),
        (
            "config: /x\n",
            "line 1: config: a configuration file cannot name another; use its folder .d",
        ),
        (
            "token: a\ncluster-init: true\n",
            "line 2: cluster-init: there is no embedded etcd;",
        ),
        (
            "etcd-s3-config-secret: x\n",
            "line 1: etcd-s3-config-secret: buckets are told by the other etcd-s3-* flags",
        ),
    ] {
        let error = Files::new(&[("config.yaml", text)]).wrong(&[]);
        assert!(error.starts_with(&format!("config.yaml, {why}")), "{error}");
    }
    let files = Files::new(&[("config.yaml", ""), ("config.yaml.d/1.yaml", "\nnope: 1\n")]);
    assert!(
        files
            .wrong(&[])
            .starts_with("config.yaml.d/1.yaml, line 2: nope: ")
    );
    // It would count on the day on which the word is left out.
    let files = Files::new(&[("config.yaml", "https-listen-port: many\n")]);
    assert!(
        files
            .wrong(&["--https-listen-port", "1"])
            .contains("line 1")
    );
}

#[test]
fn variables_of_k3s_count_where_ours_say_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("named.yaml");
    std::fs::write(&config, "node-name: filed\n").expect("written");
    let variables = BTreeMap::from([
        ("K3S_CONFIG_FILE".to_owned(), config.display().to_string()),
        ("K3S_URL".to_owned(), "https://a:6443".to_owned()),
        ("K3S_TOKEN".to_owned(), "secret".to_owned()),
        ("K3S_NODE_NAME".to_owned(), "named".to_owned()),
        ("K3S_SELINUX".to_owned(), "true".to_owned()),
    ]);
    let command = AgentFlags::augment_args(Command::new("agent").no_binary_name(true));
    let typed = ["--token", "typed"];
    let matches = command.clone().try_get_matches_from(typed).expect("words");
    let mut words = more_words(&command, &matches, &variables).expect("more words");
    words.extend(typed.map(OsString::from));
    let matches = command.try_get_matches_from(words).expect("all words");
    let flags = AgentFlags::from_arg_matches(&matches).expect("flags");
    assert_eq!(flags.server.as_deref(), Some("https://a:6443"));
    assert_eq!(flags.token.as_deref(), Some("typed"));
    assert_eq!(flags.node.node_name.as_deref(), Some("named"));
}

#[test]
fn a_flag_of_k3s_that_is_not_here_is_refused_with_what_to_do() {
    for (command, word, hint) in [
        ("server", "--cluster-init", "--datastore-endpoint"),
        ("server", "--kine-tls", "no kine"),
        ("server", "--docker", "built-in runtime"),
        ("server", "--kubelet-arg=x", "takes no arguments"),
        ("agent", "--cluster-cidr=x", "combo server"),
        ("agent", "--node-external-dns=x", "not built"),
    ] {
        let parser = match command {
            "server" => ServerFlags::augment_args(Command::new("server")),
            _ => AgentFlags::augment_args(Command::new("agent")),
        };
        let error = parser
            .no_binary_name(true)
            .try_get_matches_from([word])
            .expect_err("refused");
        let told = explain(&error, command).expect("a hint").to_string();
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn no_flag_is_both_here_and_refused() {
    for command in [
        ServerFlags::augment_args(Command::new("server")),
        AgentFlags::augment_args(Command::new("agent")),
    ] {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            // Some are an agent's and refused on a server, where they would do nothing.
            let is_agents =
                command.get_name() == "agent" && ["server", "lb-server-port"].contains(&flag);
            let is_servers_address = flag == "bind-address";
            assert!(
                crate::k3s::hint(flag).is_none() || is_agents || is_servers_address,
                "{flag}"
            );
        }
    }
}

#[test]
fn every_flag_is_also_a_variable() {
    for command in [
        ServerFlags::augment_args(Command::new("server")),
        AgentFlags::augment_args(Command::new("agent")),
    ] {
        for arg in command.get_arguments() {
            let variable = arg.get_env().and_then(|name| name.to_str());
            assert!(
                // Keys of S3 stand where every program has them.
                variable.is_some_and(|name| name.starts_with("COMBO_") || name.starts_with("AWS_")),
                "{}",
                arg.get_id()
            );
        }
    }
}
