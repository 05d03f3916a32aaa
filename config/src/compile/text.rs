//! Small rules of the protocols around us: tokens, header values, hosts. Used by compile and validate.

use std::net::Ipv6Addr;

use wsgateway_model::limits;

/// RFC 9110 token: header names and subprotocols.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A header value that arrives as it was written: visible ASCII, with spaces inside only.
pub fn check_header_value(value: &str) -> Result<(), String> {
    let max = limits::HEADER_VALUE_BYTES_MAX;
    if value.len() > max {
        return Err(format!("must have at most {max} bytes, has {}", value.len()));
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) || value.trim() != value {
        return Err("must be printable ASCII without spaces around it".to_owned());
    }
    Ok(())
}

/// Names that the gateway or the connection itself decides about.
pub fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    const RESERVED: [&str; 13] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    RESERVED.contains(&name.as_str()) || name.starts_with("proxy-") || name.starts_with("ce-")
}

/// Headers of signed requests (Standard Webhooks), in lower case.
pub fn is_signature_header(lower: &str) -> bool {
    matches!(lower, "webhook-id" | "webhook-timestamp" | "webhook-signature")
}

/// `host`, `host:port`, `1.2.3.4`, `[::1]:port`.
pub fn check_host_port(text: &str) -> Result<(), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("has an IPv6 address without its closing bracket")?;
            address.parse::<Ipv6Addr>().map_err(|_| format!("{address:?} is no IPv6 address"))?;
            ("v6", port.strip_prefix(':').or((!port.is_empty()).then_some("?")))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > 253 || host.starts_with('.') || !host.bytes().all(word) {
        return Err(format!("{host:?} is no host name"));
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..)) => {
            Err(format!("port {port:?} must be 1–65535"))
        }
        _ => Ok(()),
    }
}

/// An `http` or `https` URL whose placeholders, if any, come after its host: clients must not choose the host.
pub fn check_destination(text: &str) -> Result<(), String> {
    if text.starts_with("https://[") {
        return Err("must name its host for https: certificates of IPv6 addresses are not checked".to_owned());
    }
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    check_after_scheme(rest.ok_or("must be a URL that starts with https:// or http://")?)
}

/// The host of a URL that passed, without its port.
pub fn host_of_url(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.split_once(']') {
        Some((v6, _)) => v6.trim_start_matches('['),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// An `http` or `https` URL without placeholders.
pub fn check_url(text: &str) -> Result<(), String> {
    let max = limits::URL_BYTES_MAX;
    if text.len() > max {
        return Err(format!("must have at most {max} bytes, has {}", text.len()));
    }
    if text.contains(['{', '}']) {
        return Err("must not have placeholders".to_owned());
    }
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    check_after_scheme(rest.ok_or("must be a URL that starts with https:// or http://")?)
}

fn check_after_scheme(rest: &str) -> Result<(), String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains(['{', '}']) {
        return Err("must not have placeholders in its host: clients would choose it".to_owned());
    }
    if authority.contains('@') {
        return Err("must not have a user name: use additionalHeaders".to_owned());
    }
    check_host_port(authority)?;
    if let Some(bad) = target.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`|#".contains(*c)) {
        return Err(format!("must not contain {bad:?}"));
    }
    let mut escapes = target.split('%').skip(1);
    if !escapes.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err("has a % that is not followed by two hexadecimal digits".to_owned());
    }
    let path = target.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("must not have \".\" or \"..\" segments".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for good in [
            "http://service.1.example.com/connect",
            "http://h",
            "http://h:80?x=1",
            "http://[::1]:8080/a%20b",
            "http://h/{room}?q={x}",
            "http://my_service:65535/",
            "http://127.0.0.1/a/..b",
            "https://h:8443/{room}",
        ] {
            assert_eq!(check_destination(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "h",
            "ftp://h",
            "HTTP://h",
            "https://[::1]/",
            "https://{h}/",
            "http://",
            "http:///a",
            "http://h:0",
            "http://h:65536",
            "http://h:",
            "http://u:p@h/",
            "http://{h}/",
            "http://h{x}/",
            "http://h/a b",
            "http://h/#f",
            "http://h/%zz",
            "http://h/%a",
            "http://h/../a",
            "http://[::1",
            "http://[::g]/",
            "http://[::1]80/",
            "http://h/é",
            "http://h\\a",
            "http://h/\r\nX: y",
            "http://::1/",
        ] {
            assert!(check_destination(bad).is_err(), "{bad}");
        }
        for (url, host) in [("https://h:1/a", "h"), ("http://[::1]:8/", "::1"), ("http://a.b?c", "a.b")] {
            assert_eq!(host_of_url(url), host);
        }
    }

    #[test]
    fn headers() {
        assert!(is_token("X-Debug-Id") && !is_token("") && !is_token("a b") && !is_token("a:") && !is_token("é"));
        assert!(check_header_value("a b;c=\"d\"").is_ok() && check_header_value("").is_ok());
        for bad in ["a\r\nb", " a", "a ", "é", "a\tb", "\u{0}"] {
            assert!(check_header_value(bad).is_err(), "{bad:?}");
        }
        for reserved in ["Host", "CE-Id", "content-length", "Proxy-Authorization", "Transfer-Encoding"] {
            assert!(is_reserved_header(reserved), "{reserved}");
        }
        assert!(!is_reserved_header("X-Debug-Id") && !is_reserved_header("Authorization"));
    }
}
