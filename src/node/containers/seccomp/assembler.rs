//! Classic BPF with labels: a jump goes forward to a label, over any distance.

/// Where a jump may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label(usize);

/// One `sock_filter`, before its jumps have distances.
#[derive(Debug, Clone, Copy)]
enum Item {
    Plain {
        code: u16,
        value: u32,
    },
    /// Test the accumulator; go to `yes` or to `no`.
    Branch {
        code: u16,
        value: u32,
        yes: Label,
        no: Label,
    },
    Mark(Label),
}

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

const LOAD_WORD_ABSOLUTE: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// The next instruction is where the label points.
    pub(super) fn mark(&mut self, label: Label) {
        self.items.push(Item::Mark(label));
    }

    /// Loads a word of `seccomp_data`.
    pub(super) fn load(&mut self, offset: u32) {
        self.items.push(Item::Plain {
            code: LOAD_WORD_ABSOLUTE,
            value: offset,
        });
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.items.push(Item::Plain {
            code: AND,
            value: mask,
        });
    }

    pub(super) fn return_value(&mut self, value: u32) {
        self.items.push(Item::Plain {
            code: RETURN,
            value,
        });
    }

    pub(super) fn if_equal(&mut self, value: u32, yes: Label, no: Label) {
        self.items.push(Item::Branch {
            code: JUMP_IF_EQUAL,
            value,
            yes,
            no,
        });
    }

    pub(super) fn if_greater(&mut self, value: u32, yes: Label, no: Label) {
        self.items.push(Item::Branch {
            code: JUMP_IF_GREATER,
            value,
            yes,
            no,
        });
    }

    pub(super) fn if_at_least(&mut self, value: u32, yes: Label, no: Label) {
        self.items.push(Item::Branch {
            code: JUMP_IF_GREATER_OR_EQUAL,
            value,
            yes,
            no,
        });
    }

    /// The finished program, instructions packed as in [`super::Filter`].
    ///
    /// Works backwards, so that every distance is known when it is needed. A conditional jump reaches 255
    /// instructions; a farther one goes over an unconditional jump put right behind it.
    pub(super) fn finish(self) -> Vec<u64> {
        let mut reversed: Vec<u64> = Vec::new();
        let mut positions: Vec<Option<usize>> = vec![None; self.labels];
        for item in self.items.into_iter().rev() {
            match item {
                Item::Mark(label) => positions[label.0] = Some(reversed.len()),
                Item::Plain { code, value } => reversed.push(pack(code, 0, 0, value)),
                Item::Branch {
                    code,
                    value,
                    yes,
                    no,
                } => {
                    let place = |label: Label| {
                        positions[label.0].expect("jumps go forward: the label is behind the jump")
                    };
                    let (yes, no) = (place(yes), place(no));
                    // Distances from a branch that stands right in front of what is there now, plus two jumps at most.
                    let far = |target: usize| reversed.len() - target + 2 > 255;
                    let (yes_far, no_far) = (far(yes), far(no));
                    let mut targets = [yes, no];
                    for (target, is_far) in targets.iter_mut().zip([yes_far, no_far]) {
                        if is_far {
                            let distance = reversed.len() - *target;
                            let distance = u32::try_from(distance).expect("programs are short");
                            reversed.push(pack(JUMP, 0, 0, distance));
                            *target = reversed.len();
                        }
                    }
                    let near = |target: usize| {
                        u8::try_from(reversed.len() - target).expect("made near just now")
                    };
                    let branch = pack(code, near(targets[0]), near(targets[1]), value);
                    reversed.push(branch);
                }
            }
        }
        reversed.reverse();
        reversed
    }
}

fn pack(code: u16, yes: u8, no: u8, value: u32) -> u64 {
    u64::from(code) << 48 | u64::from(yes) << 40 | u64::from(no) << 32 | u64::from(value)
}
