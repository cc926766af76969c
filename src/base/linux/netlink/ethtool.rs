//! What a link lets its hardware do.

use super::NetlinkError;
use super::generic::GenericSocket;

const SET_FEATURES: u8 = 12;
const FEATURES_LINK: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const LINK_INDEX: u16 = 1;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
/// Old name of the feature: the sum over the packet is left to whoever sends it at last.
const SEND_CHECKSUM: &str = "tx-checksum-ip-generic";

/// Makes the kernel compute the checksums of what leaves through a link of the calling thread's network namespace,
/// instead of leaving them to the hardware below, which some cards get wrong for tunnelled packets.
pub fn compute_checksums(link: u32) -> Result<(), NetlinkError> {
    let mut socket = GenericSocket::open("ethtool")?;
    let what = "to compute a link's checksums itself";
    socket.change(what, SET_FEATURES, |request| {
        request
            .nested(FEATURES_LINK, |header| {
                header.ne32(LINK_INDEX, link);
            })
            // A bit that is named without a value is to be off.
            .nested(FEATURES_WANTED, |wanted| {
                wanted.nested(BITS, |bits| {
                    bits.nested(BIT, |bit| {
                        bit.text(BIT_NAME, SEND_CHECKSUM);
                    });
                });
            });
    })
}
