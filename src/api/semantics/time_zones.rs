//! Time zones by their names in the time zone database, which is part of the program.

use jiff::tz::TimeZone;

/// The zone of exactly this name.
pub fn find(name: &str) -> Option<TimeZone> {
    let zone = TimeZone::get(name).ok()?;
    (zone.iana_name() == Some(name)).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_database_letter_by_letter() {
        for known in [
            "UTC",
            "Etc/UTC",
            "GMT",
            "Europe/Berlin",
            "US/Pacific",
            "Asia/Calcutta",
        ] {
            assert!(find(known).is_some(), "{known}");
        }
        for unknown in [
            "",
            "Local",
            "europe/berlin",
            "utc",
            "Etc/Unknown",
            "Mars/Olympus",
        ] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }
}
