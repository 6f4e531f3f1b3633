//! The links of a text, by their hosts.

use url::Host;

/// What ends a link, beside blanks.
const ENDS: &[char] =
    &['<', '>', '(', ')', '[', ']', '{', '}', '"', '\'', '`', ',', ';', '|', '\u{ab}', '\u{bb}'];

/// Returns the hosts that a text links to, as DNS has them. A name without a scheme is a link too, because clients make one of it; the domain of an
/// e-mail address is none.
pub fn hosts(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| c.is_whitespace() || ENDS.contains(&c));
    parts.filter_map(host).collect()
}

/// Returns a domain as DNS has it; `None` for what is none.
pub fn domain(text: &str) -> Option<String> {
    match Host::parse(text.trim().trim_matches('.')).ok()? {
        Host::Domain(domain) => Some(domain),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

/// Returns whether a host is a domain or below it.
pub fn is_within(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn host(part: &str) -> Option<String> {
    let (has_scheme, rest) = match part.find("://") {
        Some(at) => (true, &part[at + 3..]),
        None => (false, part),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) if has_scheme => host,
        Some(_) => return None,
        None => authority,
    };
    let name = authority.split(':').next().unwrap_or_default();
    let name = name.trim_matches(|c: char| !c.is_alphanumeric());
    let host = domain(name)?;
    let last = host.rsplit_once('.').map(|(_, last)| last);
    let is_name = last.is_some_and(|last| {
        last.starts_with("xn--") || (last.len() >= 2 && last.chars().all(|c| c.is_ascii_alphabetic()))
    });
    (has_scheme || is_name).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_by_their_hosts() {
        let check = |text: &str, expected: &[&str]| assert_eq!(hosts(text), expected, "{text}");
        check("see https://Evil.example/path?x=1.", &["evil.example"]);
        check("(evil.example)", &["evil.example"]);
        check("https://good.example@evil.example:8080/", &["evil.example"]);
        check("http://10.0.0.1/a", &["10.0.0.1"]);
        check("\u{ff45}vil.example", &["evil.example"]);
        check("ev\u{ad}il\u{3002}example", &["evil.example"]);
        check(
            "https://\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}",
            &["xn--e1afmkfd.xn--p1ai"],
        );
        for text in ["mail ann@good.example", "a.b", "1.5", "end.", "e.g. this", ""] {
            check(text, &[]);
        }
    }

    #[test]
    fn a_domain_has_those_below_it() {
        assert!(is_within("evil.example", "evil.example") && is_within("a.b.evil.example", "evil.example"));
        assert!(!is_within("devil.example", "evil.example") && !is_within("example", "evil.example"));
    }
}
