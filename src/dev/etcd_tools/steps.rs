//! What etcdctl is asked for, one subcommand after the other on the same data.

/// One call of etcdctl. `$LEASE` is the lease that was granted last, `$FILE` a file of its own.
pub(crate) struct Step {
    pub(crate) words: &'static str,
    pub(crate) input: &'static str,
    /// Calls that do not end by themselves are ended after this many lines.
    pub(crate) lines: Option<usize>,
}

const fn step(words: &'static str) -> Step {
    Step {
        words,
        input: "",
        lines: None,
    }
}

const fn with(words: &'static str, input: &'static str) -> Step {
    Step {
        words,
        input,
        lines: None,
    }
}

const fn until(words: &'static str, lines: usize) -> Step {
    Step {
        words,
        input: "",
        lines: Some(lines),
    }
}

pub(crate) const STEPS: &[Step] = &[
    // Keys.
    step("get nothing -w json"),
    step("del nothing -w json"),
    step("put a 1 -w json"),
    step("put a 2 -w json --prev-kv"),
    with("put from-input -w json", "a value\nof two lines"),
    step("put b 1 -w json"),
    step("put b/1 11 -w json"),
    step("put b/2 9 -w json"),
    step("put b/3 10 -w json"),
    step("put b/1 12 -w json"),
    step("put a --ignore-value -w json"),
    step("put missing --ignore-value"),
    step("put a 3 --ignore-lease -w json"),
    step("put missing x --ignore-lease"),
    step("put a 3 --lease=123"),
    step("put a 3 --ignore-value"),
    step("get a"),
    step("get a -w json"),
    step("get a -w fields"),
    step("get a --hex"),
    step("get a --print-value-only"),
    step("get b --prefix -w json"),
    step("get b/ --prefix --limit=2 -w json"),
    step("get b --prefix --count-only -w fields"),
    step("get b --prefix --keys-only"),
    step("get b/1 b/3 -w json"),
    step("get b/2 --from-key -w json"),
    step("get --prefix --sort-by=VALUE --order=ASCEND b -w json"),
    step("get --prefix --sort-by=VALUE --order=DESCEND --limit=2 b -w json"),
    step("get --prefix --sort-by=CREATE --order=DESCEND b -w json"),
    step("get --prefix --sort-by=MODIFY --order=DESCEND b -w json"),
    step("get --prefix --sort-by=VERSION b -w json"),
    step("get --prefix --sort-by=KEY --order=DESCEND b -w json"),
    step("get a --rev=2 -w json"),
    step("get b --prefix --rev=6 -w json"),
    step("get a --rev=1000"),
    step("get a --consistency=s -w json"),
    step("get z a -w json"),
    step("get b --prefix --min-mod-rev=8 -w json"),
    step("get b --prefix --max-mod-rev=8 --limit=1 -w json"),
    step("get b --prefix --min-create-rev=7 --max-create-rev=8 -w json"),
    step("get --prefix= a --sort-by=NOTHING"),
    // Transactions.
    with(
        "txn -i -w json",
        "value(\"a\") = \"3\"\n\nput t 1\nget a\n\nput t 2\n\n",
    ),
    with(
        "txn -i -w json",
        "value(\"a\") = \"nothing\"\n\nput t 1\n\nput t 2\nget t\ndel b/1\n\n",
    ),
    with(
        "txn -i -w json",
        "version(\"t\") > \"0\"\nmod(\"missing\") = \"0\"\ncreate(\"a\") < \"5\"\n\nget t\n\n\n",
    ),
    with("txn -i -w json", "value(\"missing\") = \"\"\n\n\nget a\n\n"),
    with("txn -i", "\nput d 1\nput d 2\n\n\n"),
    with("txn -i", "\nput d 1\ndel d\n\n\n"),
    with(
        "txn -i -w json",
        "\ndel b --prefix\nget b --prefix\nput e 1\nget e\n\n\n",
    ),
    with("txn -i", "\n\n\n"),
    // History.
    until("watch a --rev=1 -w json", 1),
    until("watch a --rev=1", 12),
    until("watch b --prefix --rev=1 --prev-kv", 20),
    until("watch a z --rev=3 -w json", 1),
    step("compact 4"),
    step("compact 4"),
    step("compact 3"),
    step("compact 100000"),
    step("get a --rev=3"),
    step("get a --rev=4 -w json"),
    step("watch a --rev=2"),
    until("watch a --rev=4", 9),
    step("compact 9 --physical"),
    Step {
        words: "watch -i",
        input: "watch c\nprogress\nwatch a --rev=9\n",
        lines: Some(8),
    },
    step("endpoint hashkv -w fields"),
    step("endpoint hashkv --rev=12 -w fields"),
    step("endpoint hashkv --rev=1"),
    // Deletes.
    step("put x/1 1"),
    step("put x/2 2"),
    step("put x/3 3"),
    step("del x/1 --prev-kv -w json"),
    step("del x/2 x/3 -w json"),
    step("del x --prefix --prev-kv -w json"),
    step("del x --from-key --prev-kv -w json"),
    step("endpoint hashkv -w fields"),
    // Leases.
    step("lease grant 100"),
    step("put l1 1 --lease=$LEASE -w json"),
    step("put l2 1 --lease=$LEASE -w json"),
    step("get l1 -w json"),
    step("put l2 2 --ignore-lease -w json"),
    step("get l2 -w json"),
    step("put l2 2"),
    step("lease timetolive $LEASE --keys"),
    step("lease keep-alive --once $LEASE"),
    step("lease list"),
    step("lease list -w json"),
    step("lease revoke $LEASE"),
    step("get l --prefix -w json"),
    step("lease revoke $LEASE"),
    step("lease timetolive $LEASE"),
    step("lease keep-alive --once $LEASE"),
    step("lease grant 1 -w fields"),
    step("lease grant 99999999999"),
    step("lease timetolive 1234 -w json"),
    // Locks and elections.
    step("lock a-lock echo held"),
    until("elect an-election me", 2),
    until("lock a-lock", 1),
    // The rest.
    step("alarm list"),
    step("alarm disarm"),
    step("member list"),
    step("member list -w fields"),
    step("endpoint health"),
    step("endpoint status -w fields"),
    step("defrag"),
    step("snapshot save $FILE"),
    step("version"),
    step("auth status -w json"),
];
