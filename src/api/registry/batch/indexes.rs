//! Lists of indexes as jobs write them: `1,3-5,7`.

/// How many indexes a list names; every one below `completions`, in growing order.
pub(super) fn count(list: &str, completions: i32) -> Result<i32, String> {
    let mut total = 0;
    let mut last: Option<i32> = None;
    for interval in list.split(',').filter(|_| !list.is_empty()) {
        let (first, end) = parse(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// An index that both lists name.
pub(super) fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let parsed = |list: &str| -> Vec<(i32, i32)> {
        list.split(',')
            .filter_map(|interval| parse(interval, completions).ok())
            .collect()
    };
    if completed.is_empty() || failed.is_empty() {
        return None;
    }
    let failed = parsed(failed);
    parsed(completed).into_iter().find_map(|(first, end)| {
        failed
            .iter()
            .find(|other| first <= other.1 && other.0 <= end)
            .map(|other| first.max(other.0))
    })
}

fn parse(interval: &str, completions: i32) -> Result<(i32, i32), String> {
    let number = |text: &str| -> Result<i32, String> {
        let number: i32 = text
            .parse()
            .map_err(|_error| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            Err(format!("too large index: {text:?}"))
        } else {
            Ok(number)
        }
    };
    let parts: Vec<&str> = interval.split('-').collect();
    match parts.as_slice() {
        [only] => number(only).map(|index| (index, index)),
        [first, end] => {
            let (first, end) = (number(first)?, number(end)?);
            if first >= end {
                return Err(format!(
                    "non-increasing order, previous: {first}, current: {end}"
                ));
            }
            Ok((first, end))
        }
        _ => Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_its_intervals_and_grows() {
        assert_eq!(count("1,3-5", 10), Ok(4));
        assert_eq!(
            count("3,1", 10),
            Err("non-increasing order, previous: 3, current: 1".to_owned())
        );
        assert_eq!(count("10", 10), Err("too large index: \"10\"".to_owned()));
        assert_eq!(overlap("1,3-5", "4-6", 10), Some(4));
    }
}
