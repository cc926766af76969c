//! The cluster DNS over its sockets. Each test has a machine (a network namespace with `lo`) and a server of its own.
#![allow(clippy::unwrap_used)]

mod follow;
mod machine;

use hickory_proto::op::ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
use hickory_proto::rr::RecordType;
use machine::{Machine, Upstream, on_a_machine};
use serde_json::json;
use std::time::Instant;

fn a_cluster(machine: &Machine) {
    machine.put_namespace("default");
    machine.put_service(
        "web",
        &json!({"clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10", "fd43::10"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
    );
    machine.put_service(
        "db",
        &json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}),
    );
    machine.put_slice(
        "db",
        "db-1",
        &json!({"ports": [{"name": "sql", "port": 5433, "protocol": "TCP"}], "endpoints": [
        {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.42.0.6"], "conditions": {"ready": true}},
        {"addresses": ["10.42.0.7"], "hostname": "db-2", "conditions": {"ready": false}}]}),
    );
    machine.put_service("empty", &json!({"clusterIP": "None"}));
}

#[test]
fn a_service_with_a_cluster_ip_has_addresses_and_targets() {
    on_a_machine(|machine| {
        a_cluster(machine);
        let web = "web.default.svc.cluster.local.";
        assert_eq!(machine.ask(web, RecordType::A).answers, ["10.43.0.10"]);
        assert_eq!(machine.ask(web, RecordType::AAAA).answers, ["fd43::10"]);
        let response = machine.ask("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
        assert_eq!(
            response.answers,
            ["0 100 80 web.default.svc.cluster.local."]
        );
        assert_eq!(response.additionals, ["10.43.0.10", "fd43::10"]);
        assert_eq!(machine.ask(web, RecordType::SRV).answers.len(), 2);
        assert_eq!(
            machine
                .ask("10.0.43.10.in-addr.arpa.", RecordType::PTR)
                .answers,
            ["web.default.svc.cluster.local."]
        );
    });
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    on_a_machine(|machine| {
        a_cluster(machine);
        let mut all = machine
            .ask("db.default.svc.cluster.local.", RecordType::A)
            .answers;
        all.sort();
        assert_eq!(all, ["10.42.0.5", "10.42.0.6"]);
        for (name, answer) in [
            ("db-0", "10.42.0.5"),
            ("10-42-0-6", "10.42.0.6"),
            ("DB-0", "10.42.0.5"),
        ] {
            let name = format!("{name}.db.default.svc.cluster.local.");
            assert_eq!(machine.ask(&name, RecordType::A).answers, [answer]);
        }
        let targets = machine.ask("_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV);
        assert_eq!(
            targets.answers,
            [
                "0 50 5433 10-42-0-6.db.default.svc.cluster.local.",
                "0 50 5433 db-0.db.default.svc.cluster.local.",
            ]
        );
        assert_eq!(
            machine
                .ask("5.0.42.10.in-addr.arpa.", RecordType::PTR)
                .answers,
            ["db-0.db.default.svc.cluster.local."]
        );
        machine.remove_slice("db-1");
        assert_eq!(
            machine
                .ask("db.default.svc.cluster.local.", RecordType::A)
                .code,
            NXDomain
        );
        assert_eq!(
            machine.ask("5.0.42.10.in-addr.arpa.", RecordType::PTR).code,
            ServFail,
            "it is no longer ours"
        );
    });
}

#[test]
fn no_such_name_and_no_such_record_are_told_apart() {
    on_a_machine(|machine| {
        a_cluster(machine);
        let no_record = [
            ("cluster.local.", RecordType::A),
            ("svc.cluster.local.", RecordType::A),
            ("pod.cluster.local.", RecordType::A),
            ("default.svc.cluster.local.", RecordType::A),
            ("db.default.svc.cluster.local.", RecordType::AAAA),
            ("web.default.svc.cluster.local.", RecordType::MX),
            ("web.default.svc.cluster.local.", RecordType::TXT),
            ("web.default.svc.cluster.local.", RecordType::CNAME),
        ];
        let no_name = [
            "nobody.default.svc.cluster.local.",
            "empty.default.svc.cluster.local.",
            "nowhere.svc.cluster.local.",
            "web.cluster.local.",
            "web.default.svc.cluster.local.default.svc.cluster.local.",
            "db-2.db.default.svc.cluster.local.",
            "_ftp._tcp.web.default.svc.cluster.local.",
            "_http._udp.web.default.svc.cluster.local.",
            "dns-version.cluster.local.",
        ];
        for (name, kind) in no_record {
            let response = machine.ask(name, kind);
            assert_eq!(
                (response.code, response.answers.len()),
                (NoError, 0),
                "{name} {kind}"
            );
            assert_eq!(response.authorities.len(), 1, "{name}");
        }
        for name in no_name {
            let response = machine.ask(name, RecordType::A);
            assert_eq!(response.code, NXDomain, "{name}");
            assert!(
                response.authorities[0]
                    .starts_with("ns.dns.cluster.local. hostmaster.cluster.local.")
            );
        }
    });
}

#[test]
fn the_zone_tells_its_version_server_and_authority() {
    on_a_machine(|machine| {
        assert_eq!(
            machine
                .ask("dns-version.cluster.local.", RecordType::TXT)
                .answers,
            ["1.1.0"]
        );
        assert_eq!(
            machine.ask("cluster.local.", RecordType::NS).answers,
            ["ns.dns.cluster.local."]
        );
        assert_eq!(
            machine.ask("ns.dns.cluster.local.", RecordType::A).answers,
            ["10.43.0.2"]
        );
        assert_eq!(
            machine.ask("cluster.local.", RecordType::SOA).answers.len(),
            1
        );
    });
}

#[test]
fn a_pods_name_is_its_address_in_an_existing_namespace() {
    on_a_machine(|machine| {
        machine.put_namespace("default");
        assert_eq!(
            machine
                .ask("10-42-0-5.default.pod.cluster.local.", RecordType::A)
                .answers,
            ["10.42.0.5"]
        );
        assert_eq!(
            machine
                .ask("fd42--5.default.pod.cluster.local.", RecordType::AAAA)
                .answers,
            ["fd42::5"]
        );
        for name in [
            "10-42-0-5.nowhere",
            "10-42-0.default",
            "300-1-1-1.default",
            "x.10-42-0-5.default",
        ] {
            let name = format!("{name}.pod.cluster.local.");
            assert_eq!(machine.ask(&name, RecordType::A).code, NXDomain, "{name}");
        }
    });
}

#[test]
fn an_external_name_is_an_alias_that_is_followed_inside_and_outside_of_the_cluster() {
    on_a_machine(|machine| {
        let upstream = Upstream::start(&[("target.example.", "203.0.113.7")]);
        machine.use_resolver("127.0.0.1");
        a_cluster(machine);
        machine.put_service(
            "inside",
            &json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        );
        machine.put_service(
            "outside",
            &json!({"type": "ExternalName", "externalName": "target.example"}),
        );
        machine.put_service(
            "broken",
            &json!({"type": "ExternalName", "externalName": "nobody.example"}),
        );
        let inside = machine.ask("inside.default.svc.cluster.local.", RecordType::A);
        assert_eq!(
            inside.answers,
            ["web.default.svc.cluster.local.", "10.43.0.10"]
        );
        let outside = machine.ask("outside.default.svc.cluster.local.", RecordType::A);
        assert_eq!(outside.answers, ["target.example.", "203.0.113.7"]);
        let only = machine.ask("outside.default.svc.cluster.local.", RecordType::CNAME);
        assert_eq!(only.answers, ["target.example."]);
        let broken = machine.ask("broken.default.svc.cluster.local.", RecordType::A);
        assert_eq!((broken.code, broken.answers.len()), (NoError, 1));
        machine.put_service(
            "outside",
            &json!({"type": "ExternalName", "externalName": "other.example"}),
        );
        let changed = machine.ask("outside.default.svc.cluster.local.", RecordType::CNAME);
        assert_eq!(changed.answers, ["other.example."]);
        drop(upstream);
    });
}

#[test]
fn other_names_are_asked_of_the_machines_resolver_once() {
    on_a_machine(|machine| {
        let upstream = Upstream::start(&[("www.example.", "203.0.113.8")]);
        machine.use_resolver("127.0.0.1");
        for _ in 0..3 {
            assert_eq!(
                machine.ask("www.example.", RecordType::A).answers,
                ["203.0.113.8"]
            );
            assert_eq!(machine.ask("nobody.example.", RecordType::A).code, NXDomain);
        }
        assert_eq!(
            machine.ask_tcp("www.example.", RecordType::A).answers,
            ["203.0.113.8"]
        );
        assert_eq!(upstream.questions(), 2);
        assert_eq!(
            machine.ask("5.0.42.10.in-addr.arpa.", RecordType::PTR).code,
            NXDomain
        );
    });
}

#[test]
fn without_a_resolver_the_client_hears_of_it_at_once() {
    on_a_machine(|machine| {
        let start = Instant::now();
        assert_eq!(
            machine.ask("www.example.", RecordType::A).code,
            ServFail,
            "there is no file"
        );
        machine.use_resolver("");
        assert_eq!(
            machine.ask("www.example.", RecordType::A).code,
            ServFail,
            "nobody in the file"
        );
        machine.use_resolver("10.43.0.2");
        assert_eq!(
            machine.ask("www.example.", RecordType::A).code,
            ServFail,
            "only ourselves"
        );
        machine.use_resolver("192.0.2.53");
        for _ in 0..5 {
            assert_eq!(
                machine.ask("www.example.", RecordType::A).code,
                ServFail,
                "no way to it"
            );
        }
        assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
        let upstream = Upstream::start(&[("www.example.", "203.0.113.8")]);
        machine.use_resolver("127.0.0.1");
        assert_eq!(
            machine.ask("www.example.", RecordType::A).answers,
            ["203.0.113.8"],
            "the file changed"
        );
        drop(upstream);
    });
}

#[test]
fn a_resolver_that_is_silent_makes_only_the_first_clients_wait() {
    on_a_machine(|machine| {
        let _silent = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
        machine.use_resolver("127.0.0.1");
        std::thread::scope(|scope| {
            for name in ["a.example.", "b.example.", "c.example."] {
                scope.spawn(move || assert_eq!(machine.ask(name, RecordType::A).code, ServFail));
            }
        });
        let start = Instant::now();
        assert_eq!(machine.ask("d.example.", RecordType::A).code, ServFail);
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    });
}

#[test]
fn a_large_answer_is_cut_for_udp_and_whole_over_tcp() {
    on_a_machine(|machine| {
        machine.put_namespace("default");
        machine.put_service("big", &json!({"clusterIP": "None"}));
        let endpoints: Vec<_> = (0..200)
            .map(|number| json!({"addresses": [format!("10.42.1.{number}")]}))
            .collect();
        machine.put_slice("big", "big-1", &json!({"endpoints": endpoints}));
        let name = "big.default.svc.cluster.local.";
        let plain = machine.ask(name, RecordType::A);
        assert!(
            plain.is_truncated && plain.bytes <= 512 && !plain.answers.is_empty(),
            "{}",
            plain.bytes
        );
        let extended = machine.ask_with_limit(name, RecordType::A, 4096);
        assert!(
            extended.is_truncated && extended.bytes <= 1232 && extended.bytes > 512,
            "{}",
            extended.bytes
        );
        let whole = machine.ask_tcp(name, RecordType::A);
        assert!(!whole.is_truncated);
        assert_eq!(whole.answers.len(), 200);
    });
}

#[test]
fn answers_rotate_and_keep_the_case_of_the_question() {
    on_a_machine(|machine| {
        a_cluster(machine);
        let first: std::collections::BTreeSet<String> = (0..8)
            .map(|_| machine.ask("DB.Default.svc.Cluster.Local.", RecordType::A))
            .inspect(|response| assert_eq!(response.question, "DB.Default.svc.Cluster.Local."))
            .map(|response| response.answers[0].clone())
            .collect();
        assert_eq!(first.len(), 2);
    });
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    on_a_machine(|machine| {
        let mut garbage = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff];
        assert_eq!(machine.send(&garbage).unwrap().code, FormErr);
        garbage[2] |= 0x80;
        assert!(machine.send(&garbage).is_none(), "a response");
        assert!(machine.send(&[1, 2, 3]).is_none(), "too short for an id");
        assert_eq!(
            machine.ask("cluster.local.", RecordType::AXFR).code,
            Refused
        );
        assert_eq!(machine.send(&machine::update()).unwrap().code, NotImp);
    });
}
