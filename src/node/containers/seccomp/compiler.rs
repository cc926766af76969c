//! A profile to a program: dispatch on the architecture, then search the number in a tree of ranges.

use super::Filter;
use super::assembler::{Assembler, Label};
use super::numbers::{Architecture, numbers};
use super::profile::{Action, Condition, Profile, ProfileError, Rule, Test};
use std::collections::BTreeMap;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;
/// Bit of the number that marks a call of the x32 interface, which no profile here allows.
const X32_BIT: u32 = 0x4000_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO_EPERM: u32 = 0x0005_0000 | libc::EPERM.cast_unsigned();
/// `BPF_MAXINSNS`.
const INSTRUCTIONS_MAX: usize = 4096;

/// Compiles a profile for this machine.
pub(crate) fn compile(profile: &Profile) -> Result<Filter, ProfileError> {
    let mut assembler = Assembler::default();
    assembler.load(OFFSET_ARCHITECTURE);
    for (architecture, rules) in &profile.rules {
        let (body, next) = (assembler.label(), assembler.label());
        assembler.if_equal(architecture.audit(), body, next);
        assembler.mark(body);
        architecture_body(&mut assembler, *architecture, rules, profile.default)?;
        assembler.mark(next);
    }
    // An architecture that the profile does not name has other numbers: what they mean is unknown.
    assembler.return_value(KILL_PROCESS);
    let program = assembler.finish();
    if program.len() > INSTRUCTIONS_MAX {
        return Err(ProfileError::TooLong(program.len()));
    }
    Ok(Filter {
        program,
        flags: profile.flags,
    })
}

/// What is done with one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict<'a> {
    Plain(Action),
    Conditional(&'a [Rule]),
}

/// A run of numbers with one verdict, from `first` up to where the next run begins.
#[derive(Debug)]
struct Run<'a> {
    first: u32,
    verdict: Verdict<'a>,
}

fn architecture_body(
    assembler: &mut Assembler,
    architecture: Architecture,
    rules: &BTreeMap<String, Vec<Rule>>,
    default: Action,
) -> Result<(), ProfileError> {
    assembler.load(OFFSET_NUMBER);
    if architecture == Architecture::X86_64 {
        let (x32, native) = (assembler.label(), assembler.label());
        assembler.if_at_least(X32_BIT, x32, native);
        assembler.mark(x32);
        assembler.return_value(ERRNO_EPERM);
        assembler.mark(native);
    }
    let known = numbers(architecture);
    // Names that this architecture does not have are no mistake: profiles are written for all.
    let by_number: BTreeMap<u32, Verdict<'_>> = rules
        .iter()
        .filter_map(|(name, rules)| Some((*known.get(name.as_str())?, verdict(rules))))
        .collect();
    let runs = runs(&by_number, default);
    search(assembler, &runs, default)
}

fn verdict(rules: &[Rule]) -> Verdict<'_> {
    // A rule without conditions meets every call; a conditional one beside it would only matter before it.
    match rules.iter().find(|rule| rule.conditions.is_empty()) {
        Some(rule) => Verdict::Plain(rule.action),
        None => Verdict::Conditional(rules),
    }
}

fn runs<'a>(by_number: &BTreeMap<u32, Verdict<'a>>, default: Action) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = vec![Run {
        first: 0,
        verdict: Verdict::Plain(default),
    }];
    let mut add = |first: u32, verdict: Verdict<'a>| {
        let last = runs.last_mut().expect("it starts with one run");
        if last.first == first {
            last.verdict = verdict;
        } else if last.verdict != verdict || matches!(verdict, Verdict::Conditional(_)) {
            runs.push(Run { first, verdict });
        }
    };
    for (number, verdict) in by_number {
        add(*number, *verdict);
        if !by_number.contains_key(&(number + 1)) {
            add(number + 1, Verdict::Plain(default));
        }
    }
    runs
}

/// A binary search: about nine comparisons for four hundred calls.
fn search(
    assembler: &mut Assembler,
    runs: &[Run<'_>],
    default: Action,
) -> Result<(), ProfileError> {
    if let [run] = runs {
        return match run.verdict {
            Verdict::Plain(action) => {
                assembler.return_value(action.0);
                Ok(())
            }
            Verdict::Conditional(rules) => conditional(assembler, rules, default),
        };
    }
    let (lower, upper) = runs.split_at(runs.len() / 2);
    let (above, below) = (assembler.label(), assembler.label());
    assembler.if_at_least(upper[0].first, above, below);
    assembler.mark(below);
    search(assembler, lower, default)?;
    assembler.mark(above);
    search(assembler, upper, default)
}

fn conditional(
    assembler: &mut Assembler,
    rules: &[Rule],
    default: Action,
) -> Result<(), ProfileError> {
    for rule in rules {
        let fails = assembler.label();
        for condition in &rule.conditions {
            test(assembler, *condition, fails);
        }
        assembler.return_value(rule.action.0);
        assembler.mark(fails);
    }
    assembler.return_value(default.0);
    Ok(())
}

/// Falls through when the condition holds, else goes to `fails`. Words are little-endian on every target.
fn test(assembler: &mut Assembler, condition: Condition, fails: Label) {
    let low_offset = OFFSET_ARGUMENTS + condition.argument * 8;
    let (low, high) = halves(condition.value);
    match condition.test {
        Test::Equal => equal(
            assembler,
            low_offset,
            (u32::MAX, u32::MAX),
            (low, high),
            fails,
        ),
        Test::MaskedEqual(mask) => {
            equal(assembler, low_offset, halves(mask), (low, high), fails);
        }
        Test::NotEqual => {
            let (holds, compare) = (assembler.label(), assembler.label());
            assembler.load(low_offset + 4);
            assembler.if_equal(high, compare, holds);
            assembler.mark(compare);
            assembler.load(low_offset);
            assembler.if_equal(low, fails, holds);
            assembler.mark(holds);
        }
        Test::Greater => order(assembler, low_offset, (low, high), Order::Above, fails),
        Test::GreaterOrEqual => order(assembler, low_offset, (low, high), Order::AtLeast, fails),
        Test::Less => order(assembler, low_offset, (low, high), Order::Below, fails),
        Test::LessOrEqual => order(assembler, low_offset, (low, high), Order::AtMost, fails),
    }
}

#[derive(Clone, Copy)]
enum Order {
    Above,
    AtLeast,
    Below,
    AtMost,
}

fn equal(
    assembler: &mut Assembler,
    low_offset: u32,
    (low_mask, high_mask): (u32, u32),
    (low, high): (u32, u32),
    fails: Label,
) {
    for (offset, mask, value) in [
        (low_offset + 4, high_mask, high),
        (low_offset, low_mask, low),
    ] {
        let holds = assembler.label();
        assembler.load(offset);
        if mask != u32::MAX {
            assembler.and(mask);
        }
        assembler.if_equal(value, holds, fails);
        assembler.mark(holds);
    }
}

fn order(
    assembler: &mut Assembler,
    low_offset: u32,
    (low, high): (u32, u32),
    order: Order,
    fails: Label,
) {
    let (holds, same, not_above, compare) = (
        assembler.label(),
        assembler.label(),
        assembler.label(),
        assembler.label(),
    );
    let upward = matches!(order, Order::Above | Order::AtLeast);
    let (above, below) = if upward {
        (holds, fails)
    } else {
        (fails, holds)
    };
    assembler.load(low_offset + 4);
    assembler.if_greater(high, above, not_above);
    assembler.mark(not_above);
    assembler.if_equal(high, same, below);
    assembler.mark(same);
    assembler.load(low_offset);
    assembler.mark(compare);
    match order {
        Order::Above => assembler.if_greater(low, holds, fails),
        Order::AtLeast => assembler.if_at_least(low, holds, fails),
        Order::Below => assembler.if_at_least(low, fails, holds),
        Order::AtMost => assembler.if_greater(low, fails, holds),
    }
    assembler.mark(holds);
}

fn halves(value: u64) -> (u32, u32) {
    let low = u32::try_from(value & 0xffff_ffff).expect("masked to 32 bits");
    let high = u32::try_from(value >> 32).expect("shifted to 32 bits");
    (low, high)
}
