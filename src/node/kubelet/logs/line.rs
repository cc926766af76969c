//! One line of a log in CRI format: `<time> <stream> <tags> <content>`.

use env::Timestamp;

use crate::logs::options::{LogOptions, StreamSelection};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) is_stderr: bool,
    /// The rest of the container's line follows in the next one.
    pub(crate) is_partial: bool,
    pub(crate) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` for bytes that are no such line (a torn write): they are skipped.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let is_stderr = match parts.next()? {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        let tags = parts.next()?;
        Some(Self {
            time,
            is_stderr,
            is_partial: tags.split(|byte| *byte == b':').next() == Some(b"P"),
            content: parts.next().unwrap_or_default(),
        })
    }
}

/// Turns lines into what the client sees; remembers what goes from line to line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renderer {
    options: LogOptions,
    continues: bool,
    sent: u64,
}

impl Renderer {
    pub(crate) fn new(options: LogOptions) -> Self {
        Self {
            options,
            continues: false,
            sent: 0,
        }
    }

    /// Nothing more may be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.options
            .limit_bytes
            .is_some_and(|limit| self.sent >= limit)
    }

    /// Appends what is to be sent of one line (without its newline).
    pub(crate) fn render(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        let Some(line) = Line::parse(bytes) else {
            return;
        };
        let is_wanted = match self.options.stream {
            StreamSelection::All => true,
            StreamSelection::Stdout => !line.is_stderr,
            StreamSelection::Stderr => line.is_stderr,
        };
        let is_recent = self
            .options
            .since
            .is_none_or(|since| Timestamp::parse(line.time).is_some_and(|time| time >= since));
        if !is_wanted || !is_recent {
            return;
        }
        let before = into.len();
        if self.options.timestamps && !self.continues {
            into.extend_from_slice(line.time.as_bytes());
            into.push(b' ');
        }
        into.extend_from_slice(line.content);
        if !line.is_partial {
            into.push(b'\n');
        }
        self.continues = line.is_partial;
        if let Some(limit) = self.options.limit_bytes {
            let allowed = usize::try_from(limit - self.sent).unwrap_or(usize::MAX);
            into.truncate(before.saturating_add(allowed));
        }
        self.sent += (into.len() - before) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(options: LogOptions) -> String {
        let mut renderer = Renderer::new(options);
        let mut out = Vec::new();
        for line in [
            "2026-01-01T00:00:00.000000001Z stdout F one",
            "2026-01-01T00:00:01Z stderr P tw",
            "2026-01-01T00:00:01Z stderr F o",
            "torn",
        ] {
            renderer.render(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_of_a_line_are_joined_and_options_choose_what_is_seen() {
        assert_eq!(render(LogOptions::default()), "one\ntwo\n");
        assert_eq!(
            render(LogOptions {
                timestamps: true,
                ..Default::default()
            }),
            "2026-01-01T00:00:00.000000001Z one\n2026-01-01T00:00:01Z two\n"
        );
        assert_eq!(
            render(LogOptions {
                stream: StreamSelection::Stdout,
                ..Default::default()
            }),
            "one\n"
        );
        assert_eq!(
            render(LogOptions {
                limit_bytes: Some(5),
                ..Default::default()
            }),
            "one\nt"
        );
        assert_eq!(
            render(LogOptions {
                since: Timestamp::parse("2026-01-01T00:00:01Z"),
                ..Default::default()
            }),
            "two\n"
        );
    }
}
