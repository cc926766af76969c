//! Steps of rules that only the proxy needs: ranges, and the mark that asks for masquerading.

use linux::netlink::nf_tables::{Expression, Field, bits, octets};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    Inside,
    Outside,
}

/// The rule goes on if the address, of the range's family, is inside (or outside) the range.
pub(crate) fn within(field: Field, range: ipnet::IpNet, wanted: Within) -> Vec<Expression> {
    let (mask, network) = (octets(range.netmask()), octets(range.network()));
    let zeros = vec![0; mask.len()];
    let compare = match wanted {
        Within::Inside => Expression::Equal(0, network),
        Within::Outside => Expression::NotEqual(0, network),
    };
    vec![Expression::Load(field, 0), bits(0, &mask, &zeros), compare]
}

/// The bit of a packet's mark that asks for masquerading.
const MASQUERADE_MARK: u32 = 0x4000;

pub(crate) fn set_masquerade_mark() -> Vec<Expression> {
    vec![
        Expression::Load(Field::Mark, 0),
        bits(
            0,
            &(!MASQUERADE_MARK).to_ne_bytes(),
            &MASQUERADE_MARK.to_ne_bytes(),
        ),
        Expression::SetMark(0),
    ]
}

/// The rule goes on for packets with the mark, and takes it away from them.
pub(crate) fn take_masquerade_mark() -> Vec<Expression> {
    vec![
        Expression::Load(Field::Mark, 0),
        bits(0, &MASQUERADE_MARK.to_ne_bytes(), &[0; 4]),
        Expression::NotEqual(0, vec![0; 4]),
        Expression::Load(Field::Mark, 0),
        bits(0, &(!MASQUERADE_MARK).to_ne_bytes(), &[0; 4]),
        Expression::SetMark(0),
    ]
}
