//! Which trace a request belongs to, as W3C's Trace Context (level 1) says it between programs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::HeaderMap;
use uuid::Uuid;

use super::RequestId;

const HEADER: &str = "traceparent";
/// What tracing systems have noted for themselves, which goes on with the trace.
const STATE: &str = "tracestate";
/// The standard has everybody pass on so much of it; what has no room goes from the end.
const STATE_BYTES_MAX: usize = 512;
/// One with more is not of the form.
const STATE_MEMBERS_MAX: usize = 32;

/// Whether somebody exports the spans of this process's requests, as there is one subscriber of them for all of it.
static RECORDED: AtomicBool = AtomicBool::new(false);

/// The trace that a request belongs to: its caller's, or one that begins with it.
///
/// Whoever sends a `traceparent` names a trace and nothing else: no right comes of it, and what is not of the form is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    trace: u128,
    /// This request's own part of the trace.
    span: u64,
    /// The caller's part, if the trace is a caller's.
    parent: Option<u64>,
    /// Whether the caller records the trace, or this process where it begins here.
    sampled: bool,
}

impl TraceContext {
    /// Says that the spans of this process's requests are exported: a trace that begins here is marked as sampled from now on, so that
    /// the programs that are asked in it record their parts too, as most do only where the caller does. `tenantry serve` calls it where
    /// it has a collector; a program with an exporter of its own calls it once, at its start.
    ///
    /// A caller's trace goes on as the caller marked it.
    pub fn begin_sampled() {
        RECORDED.store(true, Ordering::Relaxed);
    }

    /// The caller's trace, else a new one, which has the digits of the request's own id.
    pub(super) fn of(headers: &HeaderMap, id: &RequestId) -> Self {
        Self::of_recorded(headers, id, RECORDED.load(Ordering::Relaxed))
    }

    fn of_recorded(headers: &HeaderMap, id: &RequestId, recorded: bool) -> Self {
        let mut values = headers.get_all(HEADER).iter();
        let sent = match (values.next(), values.next()) {
            // Of two nobody knows which counts.
            (Some(one), None) => one.to_str().ok().and_then(parse),
            _ => None,
        };
        let span = span_of(id.uuid());
        match sent {
            Some((trace, parent, sampled)) => Self {
                trace,
                span,
                parent: Some(parent),
                sampled,
            },
            None => Self {
                trace: id.uuid().as_u128(),
                span,
                parent: None,
                sampled: recorded,
            },
        }
    }

    /// The `traceparent` for what the request's handler asks of other programs.
    pub fn traceparent(&self) -> String {
        self.to_string()
    }

    /// The caller's `tracestate`, as it goes on with the trace; `None` where the trace begins here, or nothing is noted.
    pub(super) fn state(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        self.parent?;
        let mut values = Vec::new();
        for value in headers.get_all(STATE) {
            values.push(value.to_str().ok()?);
        }
        passed_on(&values)
    }

    /// The trace's id, as its 32 hex digits show it.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        let trace = self.trace;
        fmt::from_fn(move |f| write!(f, "{trace:032x}"))
    }

    /// The id of this request's own part of it.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        part(self.span)
    }

    /// The id of the caller's part of it, where the trace is a caller's.
    pub fn parent_id(&self) -> Option<impl fmt::Display + use<>> {
        self.parent.map(part)
    }
}

/// The form of `traceparent`, and of the draft's `traceresponse`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// The members of a `tracestate`, which may come in several headers, as far as there is room; `None` for what is not of the form.
fn passed_on(values: &[&str]) -> Option<Arc<str>> {
    let members = values.iter().flat_map(|value| value.split(','));
    let members = members.map(|member| member.trim_matches([' ', '\t']));
    let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    if members.len() > STATE_MEMBERS_MAX || members.iter().any(|member| !member.contains('=')) {
        return None;
    }
    let mut state = String::new();
    for member in members {
        let comma = if state.is_empty() { "" } else { "," };
        if state.len() + comma.len() + member.len() > STATE_BYTES_MAX {
            break;
        }
        state.push_str(comma);
        state.push_str(member);
    }
    (!state.is_empty()).then(|| state.into())
}

fn part(id: u64) -> impl fmt::Display + use<> {
    fmt::from_fn(move |f| write!(f, "{id:016x}"))
}

/// The random half of an id of version 7; its variant's bits keep it from being zero.
fn span_of(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

/// Trace, part of the trace, and whether it is recorded, of a `traceparent`.
fn parse(text: &str) -> Option<(u128, u64, bool)> {
    // Everything is ASCII, or it is none.
    let fields = (text.get(..2)?, text.get(3..35)?, text.get(36..52)?, text.get(53..55)?);
    let (version, trace, parent, flags) = fields;
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
    // A later version may have more behind another dash; the first has not.
    let ends = match version {
        "00" => text.len() == 55,
        "ff" => false,
        _ => matches!(text.as_bytes().get(55), None | Some(b'-')),
    };
    let lower_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !dashes || !ends || ![version, trace, parent, flags].into_iter().all(lower_hex) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace, parent, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_caller_s_trace_is_gone_on_with() {
        let (trace, parent, sampled) = parse(GOOD).expect("it is of the form");
        assert_eq!(parent, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(format!("{trace:032x}"), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(sampled);
        assert!(!parse(&GOOD.replace("-01", "-00")).expect("of the form").2);
        // Other flags are for others.
        assert!(parse(&GOOD.replace("-01", "-ff")).expect("of the form").2);
        assert!(parse(&format!("01{}-more", &GOOD[2..])).is_some());
        assert!(parse(&format!("01{}", &GOOD[2..])).is_some());
    }

    #[test]
    fn what_is_not_of_the_form_is_none() {
        let zero_trace = format!("00-{:032}-00f067aa0ba902b7-01", 0);
        let zero_parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016}-01", 0);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &format!("ff{}", &GOOD[2..]),
            &format!("01{}more", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace('4', "+"),
            &GOOD.replace('4', "é"),
            &zero_trace,
            &zero_parent,
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_sent_on_can_be_read_and_is_our_own_part() {
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), GOOD.parse().unwrap())]);
        let id = RequestId::of(&headers);
        let context = TraceContext::of(&headers, &id);
        let sent = context.traceparent();
        assert_eq!(parse(&sent).map(|sent| sent.0), parse(GOOD).map(|sent| sent.0));
        assert!(!sent.contains("00f067aa0ba902b7") && sent.contains(&context.trace_id().to_string()));
        let mut twice = headers.clone();
        twice.append("traceparent", GOOD.parse().unwrap());
        assert_eq!(TraceContext::of(&twice, &id).trace, id.uuid().as_u128());
    }

    #[test]
    fn a_callers_state_goes_on_with_its_trace_and_with_no_other() {
        let sent = |parent: &str, states: &[&str]| {
            let mut headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), parent.parse().unwrap())]);
            for state in states {
                headers.append(STATE, state.parse().unwrap());
            }
            let id = RequestId::of(&headers);
            TraceContext::of(&headers, &id).state(&headers)
        };
        assert_eq!(sent(GOOD, &[]), None);
        assert_eq!(sent(GOOD, &["a=1, b@c=2 ,,", "d=3"]).as_deref(), Some("a=1,b@c=2,d=3"));
        assert_eq!(sent("nonsense", &["a=1"]), None);
        for bad in ["", " , ", "a", "a=1,b"] {
            assert_eq!(sent(GOOD, &[bad]), None, "{bad}");
        }
        let many = |count: usize| vec!["a=1"; count].join(",");
        assert_eq!(sent(GOOD, &[many(32).as_str()]).as_deref(), Some(&*many(32)));
        assert_eq!(sent(GOOD, &[many(33).as_str()]), None);
        // Whole members, as many as there is room for.
        let long = format!("a={}", "x".repeat(300));
        assert_eq!(sent(GOOD, &[long.as_str(), long.as_str()]).as_deref(), Some(&*long));
    }

    #[test]
    fn what_begins_here_is_sampled_where_it_is_recorded_and_a_callers_trace_as_the_caller_says() {
        let none = HeaderMap::new();
        let not_sampled = GOOD.replace("-01", "-00");
        for (sent, recorded, flags) in [
            (None, false, "-00"),
            (None, true, "-01"),
            (Some(GOOD), false, "-01"),
            (Some(&*not_sampled), true, "-00"),
        ] {
            let mut headers = none.clone();
            if let Some(sent) = sent {
                headers.insert(HEADER, sent.parse().expect("a header's value"));
            }
            let id = RequestId::of(&headers);
            let context = TraceContext::of_recorded(&headers, &id, recorded);
            assert!(
                context.traceparent().ends_with(flags),
                "{sent:?}, {recorded}: {context}"
            );
        }
    }
}
