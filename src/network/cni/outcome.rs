//! What a plugin answers to ADD.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Address>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Address {
    address: IpNet,
    interface: Option<usize>,
}

/// The addresses of a link in the sandbox, those of the first family first. An address without a link counts: simple plugins
/// leave it out.
pub(crate) fn addresses(answer: &Value, link: &str) -> Result<Vec<IpAddr>, String> {
    let answer: Answer =
        serde_json::from_value(answer.clone()).map_err(|error| error.to_string())?;
    let is_of_link = |address: &&Address| match address.interface {
        None => true,
        Some(index) => answer
            .interfaces
            .get(index)
            .is_some_and(|interface| interface.name == link && !interface.sandbox.is_empty()),
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in answer.ips.iter().filter(is_of_link) {
        let address = address.address.addr();
        // A pod has one address of each family.
        if !addresses
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4())
        {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("it gives {link} no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_addresses_are_those_of_the_link_in_the_sandbox() {
        let answer = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.5/24", "interface": 2},
                {"address": "10.0.0.6/24", "interface": 2},
                {"address": "fd00::5/64", "interface": 2},
            ],
        });
        let found = addresses(&answer, "eth0").expect("addresses");
        assert_eq!(
            found,
            [
                "10.0.0.5".parse::<IpAddr>().unwrap(),
                "fd00::5".parse().unwrap()
            ]
        );
    }

    #[test]
    fn an_answer_without_an_address_or_of_another_form_is_refused() {
        for (answer, why) in [
            (json!({"ips": []}), "no address"),
            (json!({}), "no address"),
            (
                json!({"ips": [{"address": "10.0.0.5/24", "interface": 7}]}),
                "no address",
            ),
            (json!({"ips": [{"address": "10.0.0.5"}]}), "invalid"),
            (json!("text"), "invalid"),
        ] {
            let error = addresses(&answer, "eth0").expect_err("refused");
            assert!(error.contains(why), "{error}");
        }
    }
}
