//! Makes bad input out of good input: a few changes of a sample, the same for the same seed.

use fastrand::Rng;

/// Inputs grow no further than this; limits on size have tests of their own.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Changes that one input is made with.
const CHANGES_MAX: usize = 8;
/// The longest run of bytes that one change takes away, repeats or makes up.
const PIECE_BYTES_MAX: usize = 32;
/// How often a piece is repeated at most: deep nesting and long lists.
const REPEATS_MAX: usize = 512;
/// Inputs that were understood and are samples from then on.
const LEARNT_MAX: usize = 512;

/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff{}[]\",:\\/-.*&!|>#%@=~ \n\t\r019eE+";
/// Lengths and numbers at the edges.
const EDGES: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// Samples, and the inputs that were as good as one.
pub(super) struct Pool {
    samples: Vec<Vec<u8>>,
    given: usize,
}

impl Pool {
    pub(super) fn new(samples: Vec<Vec<u8>>) -> Self {
        let given = samples.len();
        Self { samples, given }
    }

    /// Keeps an input that was understood; when there is no room, in the place of an earlier one.
    pub(super) fn learn(&mut self, input: Vec<u8>, rng: &mut Rng) {
        if self.samples.len() < self.given + LEARNT_MAX {
            self.samples.push(input);
        } else {
            let place = rng.usize(self.given..self.samples.len());
            self.samples[place] = input;
        }
    }

    pub(super) fn next(&self, rng: &mut Rng) -> Vec<u8> {
        let mut input = self.sample(rng).to_vec();
        for _ in 0..rng.usize(1..=CHANGES_MAX) {
            self.change(&mut input, rng);
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }

    fn sample(&self, rng: &mut Rng) -> &[u8] {
        &self.samples[rng.usize(..self.samples.len())]
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let place = rng.usize(..=input.len());
        let end = (place + rng.usize(..=PIECE_BYTES_MAX)).min(input.len());
        match rng.u8(..9) {
            0 if place < input.len() => input[place] ^= 1 << rng.u8(..8),
            1 if place < input.len() => input[place] = TELLING[rng.usize(..TELLING.len())],
            2 => input.insert(place, TELLING[rng.usize(..TELLING.len())]),
            3 => drop(input.drain(place..end)),
            4 => input.truncate(place),
            5 => edge(&mut input[place..], rng),
            6 => {
                let piece = input[place..end].repeat(repeats(rng));
                input.splice(place..place, piece);
            }
            7 => {
                let other = self.sample(rng);
                let from = rng.usize(..=other.len());
                input.truncate(place);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let made_up: Vec<u8> = std::iter::repeat_with(|| rng.u8(..))
                    .take(end - place)
                    .collect();
                input[place..end].copy_from_slice(&made_up);
            }
        }
    }
}

/// Mostly once or twice, at times very often.
fn repeats(rng: &mut Rng) -> usize {
    if rng.u8(..8) == 0 {
        rng.usize(..REPEATS_MAX)
    } else {
        rng.usize(1..3)
    }
}

/// Writes a number at an edge over what is there, in one of the widths and orders that formats have.
fn edge(input: &mut [u8], rng: &mut Rng) {
    let number = EDGES[rng.usize(..EDGES.len())];
    let width = [1, 2, 4, 8][rng.usize(..4)];
    let mut bytes = number.to_le_bytes()[..width].to_vec();
    if rng.bool() {
        bytes.reverse();
    }
    for (place, byte) in input.iter_mut().zip(bytes) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seed: u64) -> Vec<Vec<u8>> {
        let pool = Pool::new(vec![
            b"{\"a\": [1, 2]}".to_vec(),
            Vec::new(),
            vec![7; INPUT_BYTES_MAX],
        ]);
        let mut rng = Rng::with_seed(seed);
        (0..2000).map(|_| pool.next(&mut rng)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_inputs_and_none_is_too_long() {
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= INPUT_BYTES_MAX));
    }
}
