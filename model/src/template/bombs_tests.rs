//! Templates that were written to hurt, and events that were sent to: each is refused when it is compiled or stopped when
//! it runs, within time and memory, and none overflows the stack of an ordinary thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::*;

/// What reliability demands of one evaluation. The thread's own time counts, and the best of several tries: tests share
/// their cores and caches with others.
const TIME_MAX: Duration = Duration::from_millis(5);
const MEMORY_MAX: usize = 8 * 1024 * 1024;
const TRIES: usize = 5;
/// A shared machine may be half as fast for seconds. What is too slow is tried for so long.
const TRIES_MAX: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);
/// Compiling happens once per version, on a thread without connections.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(1);

/// How long the calling thread has run.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the given value, which outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Counts what the calling thread has allocated and not yet freed.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(NOW.get()));
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get().wrapping_sub(layout.size()));
        System.dealloc(pointer, layout);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An event within the default `maxMessageBytes`, with something for every bomb.
fn event() -> Json {
    json!({
        "n": 90_000,
        "text": "x".repeat(30_000),
        "same": "x".repeat(30_000),
        "list": (0..6_000).collect::<Vec<_>>(),
        "alike": (0..6_000).collect::<Vec<_>>(),
        "deep": (0..100).fold(json!(1), |inner, _| json!([inner])),
    })
}

fn context(event: &Arc<Json>) -> Context {
    Context {
        event: Some(event.clone()),
        connection: Some(Arc::new(sample_connection())),
        endpoint: Some(Arc::new(json!({"id": "ep"}))),
        unix_millis: 0,
        ack: None,
    }
}

thread_local! {
    /// What took too much on this thread.
    static OFFENDERS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn nothing_took_too_much() {
    let offenders = OFFENDERS.take();
    assert!(offenders.is_empty(), "{} took too much:\n{}", offenders.len(), offenders.join("\n"));
}

/// Compiles and evaluates; remembers when that takes too much.
fn survive(template: &str, event: &Arc<Json>) -> Result<usize, TemplateError> {
    let offence = |what: String| OFFENDERS.with_borrow_mut(|known| known.push(format!("{what}: {template:.160}")));
    let started = cpu();
    let compiled = Template::compile(template);
    let took = cpu() - started;
    if took > COMPILE_TIME_MAX {
        offence(format!("{took:?} to compile"));
    }
    let compiled = compiled?;
    let (mut best, mut outcome) = (Duration::MAX, Ok(0));
    for attempt in 1..=TRIES_MAX {
        let context = context(event);
        let before = NOW.get();
        PEAK.set(before);
        let started = cpu();
        let made = compiled.render(context);
        best = best.min(cpu() - started);
        let peak = PEAK.get().saturating_sub(before);
        if peak > MEMORY_MAX {
            offence(format!("{peak} bytes"));
        }
        outcome = made.map(|made| made.len());
        if best < TIME_MAX / 2 || (attempt >= TRIES && best <= TIME_MAX) {
            break;
        }
        if attempt > TRIES {
            std::thread::park_timeout(PAUSE);
        }
    }
    println!("{best:?} {outcome:?} {template:.120}");
    if best > TIME_MAX {
        offence(format!("{best:?}"));
    }
    outcome
}

/// What doubles in every step, written out often enough.
fn doubling(first: &str, step: &str, times: usize, last: &str) -> String {
    format!("{first}{}{last}", step.repeat(times))
}

fn bombs() -> Vec<String> {
    let over = "{% for i in range(event.n) %}";
    let inside = |body: &str| format!("[{over}{body}{{% endfor %}}0]");
    let mut bombs: Vec<String> = [
        // Endless, nested, printing.
        "1,",
        "{{ i }},",
        "{{ event }},",
        "{{ event.text }},",
        "{{ event.text | upper }},",
        "{% for j in range(event.n) %}{% for k in range(event.n) %}{% endfor %}{% endfor %}",
        "{% for c in event.text %}{% endfor %}",
        "{% for c in event.text if false %}{% endfor %}",
        "{% for x in event.list %}{{ x }},{% endfor %}",
        // Comparing and looking, which cost more than a step each.
        "{% if event.text == event.same %}{% endif %}",
        "{% if event.list == event.alike %}{% endif %}",
        "{% if [event.list] == [event.alike] %}{% endif %}",
        "{% if event.text < event.same %}{% endif %}",
        "{% if event.same in [event.text] %}{% endif %}",
        "{% if [event.list] in [[event.alike]] %}{% endif %}",
        "{% if 'y' in event.text %}{% endif %}",
        "{% if event.text is eq(event.same) %}{% endif %}",
        "{% if event.text is startingwith(event.same) %}{% endif %}",
        "{% if event.text is endingwith(event.same) %}{% endif %}",
        "{% set x = [event.text, event.same] | sort %}",
        "{% set x = [event.text, event.same] | max %}",
        "{% set x = [event.text, event.same] | unique %}",
        "{% set x = event.list | sort %}",
        "{% set x = event.list | sort(reverse=true) %}",
        "{% set x = event.list | list %}",
        "{% set x = event.list | reverse %}",
        "{% set x = event.list | sum %}",
        "{% set x = event.list | last %}",
        "{% set x = event.list | length %}",
        "{% set x = event | items %}",
        "{% set x = event.list | join %}",
        "{% set x = event.list | map('string') %}",
        "{% set x = event.list | select('gt', 1) %}",
        "{% set x = event.text | length %}",
        "{% set x = event.text | int(0) %}",
        "{% set x = event.text | replace('x', event.same) %}",
        "{% set x = event.text | replace('x', 'yy') %}",
        "{% set x = event.text | split('x') %}",
        "{% set x = event.text | title | capitalize | trim | truncate(99999) %}",
        "{% set x = event.text ~ event.same %}",
        "{% set x = event.text + event.same %}",
        "{% set x = event | tojson %}",
        "{% set x = event | string %}",
        "{% set x = event.deep %}",
        "{% set x = event.missing | default(event.list | sort) %}",
        "{{ now }},",
        "{% set x = 1.5 | round(99999) %}",
    ]
    .map(inside)
    .to_vec();
    // What doubles.
    let texts = "{% set a = event.text %}";
    let lists = "{% set a = [event.list] %}";
    for (first, step, last) in [
        (texts, "{% set a = a ~ a %}", "{{ a }}"),
        (texts, "{% set a = a + a %}", "{{ a }}"),
        (texts, "{% set a = a | replace('x', 'xx') %}", "{{ a }}"),
        (lists, "{% set a = [a, a] %}", "{{ a }}"),
        (lists, "{% set a = [a, a] %}", "\"{{ a }}\""),
        (lists, "{% set a = [a, a] %}", "{{ a | string }}"),
        (lists, "{% set a = [a, a] %}", "{{ a ~ '' }}"),
        (lists, "{% set a = [a, a] %}", "{{ a == [a] }}"),
        (lists, "{% set a = [a, a] %}{% set b = [b, b] if b is defined else [1] %}", "{{ a == b }}"),
        (lists, "{% set a = [a, a] %}", "{{ a in [[a, 1]] }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | sort }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | unique }}"),
        (lists, "{% set a = [a, a] %}", "{{ [a, [a]] | max }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | join }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | map('upper') }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | int(0) }}"),
        (lists, "{% set a = [a, a] %}", "{{ a | first | length }}"),
        (lists, "{% set a = [a, a] %}", "{{ {'x': a} }}"),
        (lists, "{% set a = {'x': a, 'y': a} %}", "{{ a }}"),
        (lists, "{% set a = {'x': a, 'y': a} %}", "{{ a | items }}"),
        (lists, "{% set a = a + a %}", "{{ a }}"),
        (lists, "{% set a = a * 1000000 %}", "{{ a }}"),
        (texts, "{% set a = a * 1000000 %}", "{{ a }}"),
        ("{% set a = range(event.n) %}", "{% set a = a | list %}", "{{ a }}"),
        ("{% set a = range(event.n) %}", "", "{{ a }}"),
        ("{% set a = range(event.n) %}", "", "{{ a | sort }}"),
        ("{% set a = range(event.n) %}", "", "{{ a | last }}"),
        ("{% set a = range(event.n) %}", "", "{{ a | sum }}"),
        ("{% set a = range(event.n) %}", "", "{{ event.missing in a }}"),
        ("{% set a = range(event.n) %}", "", "{{ a[event.n - 1] }}"),
        ("{% set a = range(event.n) %}", "", "{{ a == range(event.n - 1) }}"),
        ("{% set a = event.n %}", "{% set a = a * a %}", "{{ a }}"),
        ("{% set a = 1.5 %}", "{% set a = a * a * 1e300 %}", "{{ a }}"),
        ("{% set a = 1 %}", "{% set a = [a] %}", "{{ a }}"),
        ("{% set a = 1 %}", "{% set a = [a] %}", "{{ a | sort }}"),
    ] {
        for times in [1, 40, 1000] {
            bombs.push(doubling(first, step, times, last));
        }
    }
    bombs
}

/// Deep and long sources: what recurses in the engine's parser and compiler.
fn sources() -> Vec<String> {
    let mut sources = Vec::new();
    for times in [10, 100, 190, 390, 1_000, 8_000] {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{'a':", "1", "}"),
            ("not ", "1", ""),
            ("- ", "1", ""),
            ("1 + ", "1", ""),
            ("'a' ~ ", "1", ""),
            ("1 == 1 and ", "1", ""),
            ("1 if ", "1", " else 1"),
            ("1 if 1 else ", "1", ""),
            ("", "event", ".a"),
            ("", "event", "[0]"),
            ("", "1", " | string"),
            ("", "1", " is number"),
            ("event[", "0", "]"),
            ("range(", "1", ")"),
        ] {
            sources.push(format!("{{{{ {}{middle}{} }}}}", open.repeat(times), close.repeat(times)));
        }
        for (open, close) in [
            ("{% if event.a %}", "{% endif %}"),
            ("{% for a in [1] %}", "{% endfor %}"),
            ("{% with a = 1 %}", "{% endwith %}"),
            ("{% if 0 %}{% else %}", "{% endif %}"),
            ("{% if 0 %}{% elif 1 %}", "{% endif %}"),
            ("{% set a = [a] %}", ""),
        ] {
            sources.push(format!("{}1{}", open.repeat(times), close.repeat(times)));
        }
        sources.push(format!("{{% if 0 %}}{}{{% endif %}}1", "{% elif 0 %}".repeat(times)));
    }
    for source in [
        "{{",
        "{%",
        "{#",
        "{% raw %}",
        "{{ '",
        "{{ \"\\u",
        "{{ 1e999999999 }}",
        "{{ 99999999999999999999999999999999999999999999 }}",
    ] {
        sources.push(source.to_owned());
    }
    sources
}

#[test]
fn bombs_are_refused_or_stopped() {
    let event = Arc::new(event());
    let mut stopped = 0;
    for bomb in bombs() {
        stopped += usize::from(survive(&bomb, &event).is_err());
    }
    nothing_took_too_much();
    assert!(stopped > 60, "only {stopped} of them were bombs");
}

#[test]
fn sources_do_not_overflow_the_stack() {
    let event = Arc::new(json!({"a": 1}));
    // The stack of actix workers and of tokio's threads.
    let on_a_worker = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for source in sources() {
            let _ = survive(&source, &event);
        }
        nothing_took_too_much();
    });
    on_a_worker.unwrap().join().unwrap();
}

#[test]
fn large_events_pass_or_are_told() {
    let template = "{\"all\": {{ event }}, \"by\": {{ connection.id }}}";
    for (bytes, fits) in [(1_000, true), (130_000, true), (900_000, true), (2_000_000, false)] {
        let event = Arc::new(json!({"text": "é".repeat(bytes / 2)}));
        let outcome = survive(template, &event);
        assert_eq!(outcome.is_ok(), fits, "{bytes}: {outcome:?}");
    }
    nothing_took_too_much();
}
