//! IP addresses and ranges of them (KEP-4858: no leading zeros, no IPv4 mapped into IPv6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use apimachinery::{FieldError, FieldErrors, FieldPath};

/// An address as older fields accept it; one that stood there before stays legal.
pub(crate) fn legacy_ip(errors: &mut FieldErrors, text: &str, path: &FieldPath, known: &[String]) {
    if known.iter().any(|known| known == text) {
        return;
    }
    let _address = checked_ip(errors, text, path);
}

/// An address in its canonical form.
pub(crate) fn ip(errors: &mut FieldErrors, text: &str, path: &FieldPath) {
    let before = errors.len();
    if let Some(address) = checked_ip(errors, text, path) {
        let canonical = address.to_string();
        if errors.len() == before && canonical != text {
            errors.push(FieldError::invalid(
                path,
                text,
                format!("must be in canonical form ({canonical:?})"),
            ));
        }
    }
}

fn checked_ip(errors: &mut FieldErrors, text: &str, path: &FieldPath) -> Option<IpAddr> {
    let Some(address) = parse_sloppy(text) else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(path, text, why));
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(path, text, "must not have leading 0s"));
    } else if is_mapped(text) {
        errors.push(FieldError::invalid(
            path,
            text,
            "must not be an IPv4-mapped IPv6 address",
        ));
    }
    Some(address)
}

/// A range as older fields accept it.
pub(crate) fn legacy_cidr(
    errors: &mut FieldErrors,
    text: &str,
    path: &FieldPath,
    known: &[String],
) {
    if known.iter().any(|known| known == text) {
        return;
    }
    let _range = checked_cidr(errors, text, path);
}

/// A range in its canonical form.
pub(crate) fn cidr(errors: &mut FieldErrors, text: &str, path: &FieldPath) {
    let before = errors.len();
    if let Some((address, bits)) = checked_cidr(errors, text, path) {
        let canonical = format!("{address}/{bits}");
        if errors.len() == before && canonical != text {
            errors.push(FieldError::invalid(
                path,
                text,
                format!("must be in canonical form ({canonical:?})"),
            ));
        }
    }
}

fn checked_cidr(errors: &mut FieldErrors, text: &str, path: &FieldPath) -> Option<(IpAddr, u8)> {
    let parsed = text.split_once('/').and_then(|(address, bits)| {
        let address = parse_sloppy(address)?;
        let width = if text.contains(':') { 128 } else { 32 };
        let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let length = bits
            .parse::<u8>()
            .ok()
            .filter(|length| digits && *length <= width)?;
        Some((address, bits, length))
    });
    let Some((address, bits, length)) = parsed else {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, text, why));
        return None;
    };
    let (address_text, _) = text.split_once('/').unwrap_or_default();
    let padded = bits.len() > 1 && bits.starts_with('0');
    if address_text.parse::<IpAddr>().is_err() || padded {
        errors.push(FieldError::invalid(
            path,
            text,
            "must not have leading 0s in IP or prefix length",
        ));
    } else if is_mapped(address_text) {
        errors.push(FieldError::invalid(
            path,
            text,
            "must not have an IPv4-mapped IPv6 address",
        ));
    } else if masked(address, length) != address {
        errors.push(FieldError::invalid(
            path,
            text,
            "must not have bits set beyond the prefix length",
        ));
    }
    Some((masked(address, length), length))
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(length.min(32)))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

fn is_mapped(text: &str) -> bool {
    text.parse::<Ipv6Addr>()
        .is_ok_and(|address| address.to_ipv4_mapped().is_some())
}

/// As the first versions of Kubernetes read addresses: leading zeros are ignored, mapped ones are IPv4.
pub(crate) fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        let address = text.parse::<Ipv6Addr>().ok()?;
        return Some(
            address
                .to_ipv4_mapped()
                .map_or(IpAddr::V6(address), IpAddr::V4),
        );
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| digits)?;
    }
    parts
        .next()
        .is_none()
        .then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

pub(crate) fn is_ipv6(text: &str) -> bool {
    parse_sloppy(text).is_some_and(|address| address.is_ipv6())
}

/// One address of each family, in any order.
pub(crate) fn is_dual_stack<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let (v6, v4): (Vec<&str>, Vec<&str>) = texts.partition(|text| is_ipv6(text));
    !v4.is_empty() && !v6.is_empty()
}

/// A range's address and its bits.
pub(crate) fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address = parse_sloppy(address)?;
    let bits: u32 = bits.parse().ok()?;
    (bits <= bits_of(address)).then_some((address, bits))
}

pub(crate) fn is_strictly_inside(inner: (IpAddr, u32), outer: (IpAddr, u32)) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let shift = bits_of(outer.0).saturating_sub(outer.1);
    let network = |address: IpAddr| number(address).checked_shr(shift).unwrap_or(0);
    inner.0.is_ipv4() == outer.0.is_ipv4()
        && inner.1 > outer.1
        && network(inner.0) == network(outer.0)
}

fn bits_of(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What is said of ranges that more than one text stands for.
pub(crate) fn unusual_cidr(text: &str, path: &FieldPath) -> Option<String> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let canonical = format!("{address}/{bits}");
    let is_unusual = address.to_ipv4_mapped().is_none() && canonical != text;
    is_unusual
        .then(|| format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"))
}

/// Addresses that can be reached from elsewhere. The rule is older than the functions that would name it better.
pub(crate) fn endpoint_ip(errors: &mut FieldErrors, text: &str, path: &FieldPath) {
    let Some(address) = parse_sloppy(text) else {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid IP address",
        ));
        return;
    };
    let mut refuse = |why: &str| errors.push(FieldError::invalid(path, text, why));
    if address.is_unspecified() {
        refuse(&format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(check: impl FnOnce(&mut FieldErrors, &FieldPath)) -> Vec<String> {
        let mut errors = FieldErrors::none();
        check(&mut errors, &FieldPath::new("f"));
        errors.iter().map(|error| error.detail.clone()).collect()
    }

    #[test]
    fn an_old_field_takes_any_form_but_the_ambiguous_ones() {
        let errors = |text: &str| texts(|errors, path| legacy_ip(errors, text, path, &[]));
        assert!(errors("FE80::1").is_empty());
        assert_eq!(errors("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(
            errors("::ffff:1.2.3.4"),
            ["must not be an IPv4-mapped IPv6 address"]
        );
        assert_eq!(errors("x").len(), 1);
    }

    #[test]
    fn a_range_has_no_bits_beyond_its_prefix() {
        let errors = |text: &str| texts(|errors, path| cidr(errors, text, path));
        assert!(errors("10.0.0.0/8").is_empty());
        assert!(errors("2001:db8::/64").is_empty());
        assert_eq!(
            errors("10.0.0.1/8"),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(errors("10.0.0.0/33").len(), 1);
    }
}
