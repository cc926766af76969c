//! Pages that come through a proxy link to where they stand behind it: their absolute links get the proxy's path in front.

/// A tag that is longer is passed on as it is.
const TAG_BYTES_MAX: usize = 64 * 1024;

/// Attributes whose value is a link, wherever they stand (HTML 4.01 and 5, index of attributes).
const LINKS: &[&str] = &[
    "action",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "usemap",
];
/// Elements whose content is no markup.
const RAW_TEXT: &[&str] = &[
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
    "iframe",
    "noembed",
    "noframes",
    "plaintext",
];

/// Where a page was asked for, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    /// The path of the proxy, without what was asked of the one behind it.
    pub(crate) prefix: String,
    /// Hosts that mean the one behind the proxy.
    pub(crate) hosts: Vec<String>,
}

impl Links {
    /// The link as it works for the client.
    pub(crate) fn rewrite(&self, link: &str) -> Option<String> {
        let rest = match split_host(link) {
            Some((host, rest)) if self.hosts.iter().any(|known| known == host) => rest,
            Some(_) => return None,
            None => link,
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        if !path.starts_with('/') || path.starts_with(&self.prefix) {
            return None;
        }
        let mut rewritten = clean(&format!("{}{path}", self.prefix));
        if path.ends_with('/') && !rewritten.ends_with('/') {
            rewritten.push('/');
        }
        Some(rewritten + after)
    }
}

/// Host and what follows it, of a link that names one.
fn split_host(link: &str) -> Option<(&str, &str)> {
    let authority = link.split_once("//").and_then(|(scheme, rest)| {
        let is_scheme = scheme.is_empty()
            || scheme
                .strip_suffix(':')
                .is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric()));
        is_scheme.then_some(rest)
    })?;
    Some(authority.split_at(authority.find(['/', '?', '#']).unwrap_or(authority.len())))
}

/// The shortest path that names the same place.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Rewrites a page that comes in pieces; holds back at most one unfinished tag.
#[derive(Debug)]
pub(crate) struct Page {
    links: Links,
    held: Vec<u8>,
    /// The element whose raw content is passing.
    raw: Option<String>,
}

impl Page {
    pub(crate) fn new(links: Links) -> Self {
        Self {
            links,
            held: Vec::new(),
            raw: None,
        }
    }

    /// What can be passed on after one more piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut done = Vec::with_capacity(held.len());
        let mut rest = &held[..];
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            done.extend_from_slice(&rest[..start]);
            rest = &rest[start..];
            let Some(length) = markup_length(rest) else {
                if rest.len() > TAG_BYTES_MAX {
                    break;
                }
                self.held = rest.to_vec();
                return done;
            };
            self.pass(&rest[..length], &mut done);
            rest = &rest[length..];
        }
        done.extend_from_slice(rest);
        done
    }

    /// What is left when the page ended within a tag.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn pass(&mut self, markup: &[u8], done: &mut Vec<u8>) {
        let name = element_name(markup);
        match &self.raw {
            Some(raw) if name.strip_prefix('/') == Some(raw) => self.raw = None,
            Some(_) => {}
            None if RAW_TEXT.contains(&name.as_str()) => self.raw = Some(name.clone()),
            None => {}
        }
        let is_inside_raw = self.raw.as_ref().is_some_and(|raw| *raw != name);
        match std::str::from_utf8(markup) {
            Ok(tag)
                if !is_inside_raw
                    && name.starts_with(|first: char| first.is_ascii_alphabetic()) =>
            {
                done.extend_from_slice(rewrite_tag(tag, &self.links).as_bytes());
            }
            _ => done.extend_from_slice(markup),
        }
    }
}

/// `a`, `/a`, or nothing for what is no tag; in small letters.
fn element_name(markup: &[u8]) -> String {
    markup[1..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'/')
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

/// How long the tag or comment at the start is; nothing if its end is not there yet.
fn markup_length(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'!' => {
            if text.len() < 4 {
                return None;
            }
            if text.starts_with(b"<!--") {
                return text
                    .windows(3)
                    .skip(4)
                    .position(|end| end == b"-->")
                    .map(|at| at + 4 + 3);
            }
            text.iter().position(|byte| *byte == b'>').map(|at| at + 1)
        }
        first if first.is_ascii_alphabetic() || *first == b'/' => {
            let mut quote = None;
            for (at, byte) in text.iter().enumerate() {
                match (quote, byte) {
                    (None, b'>') => return Some(at + 1),
                    (None, b'"' | b'\'') => quote = Some(*byte),
                    (Some(open), byte) if open == *byte => quote = None,
                    _ => {}
                }
            }
            None
        }
        _ => Some(1),
    }
}

/// The tag with its links rewritten, all else as it was.
fn rewrite_tag(tag: &str, links: &Links) -> String {
    let mut done = String::with_capacity(tag.len());
    let mut rest = tag;
    while let Some((name, value_start)) = next_attribute(rest) {
        let (before, after) = rest.split_at(value_start);
        done.push_str(before);
        let value = value_at(after);
        let is_link = LINKS.contains(&name.to_ascii_lowercase().as_str());
        match is_link.then(|| links.rewrite(value)).flatten() {
            Some(rewritten) => done.push_str(&rewritten),
            None => done.push_str(value),
        }
        rest = &after[value.len()..];
        // A closing quote opens nothing.
        if before.ends_with(['"', '\'']) && !rest.is_empty() {
            done.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    done.push_str(rest);
    done
}

/// The next attribute that has a value: its name, and where its value starts.
fn next_attribute(tag: &str) -> Option<(&str, usize)> {
    let equals = tag.find('=')?;
    let name = tag[..equals]
        .trim_end()
        .rsplit(|c: char| c.is_ascii_whitespace() || c == '/' || c == '<')
        .next()?;
    let spaces = tag[equals + 1..].len() - tag[equals + 1..].trim_start().len();
    let start = equals + 1 + spaces;
    let quoted = tag[start..].starts_with(['"', '\'']);
    Some((name, start + usize::from(quoted))).filter(|(_, start)| *start <= tag.len())
}

/// The value that starts here, up to its closing quote or, unquoted, the next space.
fn value_at(text: &str) -> &str {
    let end = text.find(['"', '\'', '>']).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{Links, Page};

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            hosts: vec!["10.0.0.1:80".to_owned()],
        }
    }

    #[test]
    fn absolute_links_to_the_same_host_get_the_path_of_the_proxy() {
        let rewrite = |link| links().rewrite(link);
        let proxied = |rest: &str| Some(format!("/api/v1/namespaces/n/pods/p/proxy{rest}"));
        assert_eq!(rewrite("/a/../b/?q=/1#f"), proxied("/b/?q=/1#f"));
        assert_eq!(rewrite("http://10.0.0.1:80/x"), proxied("/x"));
        assert_eq!(rewrite("http://elsewhere/x"), None);
        assert_eq!(rewrite("relative"), None);
        assert_eq!(rewrite("mailto:a@b"), None);
        assert_eq!(rewrite("/api/v1/namespaces/n/pods/p/proxy/there"), None);
    }

    #[test]
    fn a_page_in_any_pieces_is_rewritten_the_same() {
        let page = "<!-- <a href=\"/no\"> --><html><A class='x' HREF=\"/one\">1 < 2</a><img src='/two'/><script>\"<a href='/no'>\"</script><a href=\"b\">";
        let prefix = &links().prefix;
        let wanted = page
            .replace("\"/one", &format!("\"{prefix}/one"))
            .replace("'/two", &format!("'{prefix}/two"));
        for size in [1, 2, 3, 7, 50, page.len()] {
            let mut rewriter = Page::new(links());
            let mut got = Vec::new();
            for piece in page.as_bytes().chunks(size) {
                got.extend(rewriter.push(piece));
            }
            got.extend(rewriter.finish());
            assert_eq!(
                String::from_utf8(got).unwrap(),
                wanted,
                "in pieces of {size}"
            );
        }
    }
}
