//! What templates make of events.

use super::*;

fn context(event: Json) -> Context {
    let mut connection = sample_connection();
    connection["user"] = json!("ann");
    connection["params"] = json!({"room": "lobby"});
    Context {
        event: Some(Arc::new(event)),
        connection: Some(Arc::new(connection)),
        endpoint: Some(Arc::new(json!({"id": "ep-1", "path": "/chat/{room}", "name": null, "version": 3}))),
        unix_millis: 1_700_000_000_123,
        ack: None,
    }
}

fn rendered(template: &str, event: Json) -> String {
    Template::compile(template).unwrap().render(context(event)).unwrap()
}

fn failure(template: &str, event: Json) -> String {
    Template::compile(template).unwrap().render(context(event)).unwrap_err().to_string()
}

#[test]
fn values_are_json_outside_quotes_and_text_inside() {
    let event = json!({"text": "a \"quoted\"\n<b> \\ é", "n": 1.5, "big": u64::MAX, "list": [1, "x", null], "o": {"k": true}, "none": null});
    let template = r#"{"all": {{ event.o }}, "t": {{ event.text }}, "said": "{{ connection.user }}: {{ event.text }}!",
        "n": {{ event.n }}, "b": {{ event.big }}, "l": {{ event.list }}, "s": "{{ event.list }} {{ event.n }}", "none": {{ event.none }}}"#;
    let made: Json = serde_json::from_str(&rendered(template, event.clone())).unwrap();
    assert_eq!(made["t"], event["text"]);
    assert_eq!(made["said"], json!(format!("ann: {}!", event["text"].as_str().unwrap())));
    assert_eq!(
        (&made["all"], &made["l"], &made["n"], &made["b"]),
        (&event["o"], &event["list"], &event["n"], &event["big"])
    );
    assert_eq!((&made["s"], &made["none"]), (&json!("[1,\"x\",null] 1.5"), &Json::Null));
    assert_eq!(rendered("{{ event.text | tojson }}", json!({"text": "\""})), r#""\"""#);
    assert_eq!(rendered(r#""{{ event.o | tojson }}""#, event), r#""{\"k\":true}""#);
}

#[test]
fn everything_that_can_be_seen() {
    let template = r#"[{{ event.a[0].b }}, {{ connection.id }}, {{ connection.params.room }}, {{ endpoint.id }}, {{ endpoint.version }}, {{ now }}]"#;
    let made = rendered(template, json!({"a": [{"b": 1}]}));
    assert_eq!(made, r#"[1, "c", "lobby", "ep-1", 3, "2023-11-14T22:13:20.123Z"]"#);
    let template = Template::compile("{{ event.a }}").unwrap();
    assert!(template.uses("event") && !template.uses("connection") && !template.uses("now"));
    let ack = Template::compile_ack(r#"{"got": {{ ack.eventId }}}"#).unwrap();
    let made = ack.render(Context { ack: Some(Arc::new(json!({"eventId": "e1"}))), ..Context::default() });
    assert_eq!(made.unwrap(), r#"{"got": "e1"}"#);
}

#[test]
fn expressions_filters_and_tests() {
    let event = json!({"n": 7, "s": "  Some text ", "list": [3, 1, 2, 3], "rows": [{"id": 1, "ok": true}, {"id": 2, "ok": false}], "m": {"b": 1, "a": 2}});
    for (template, expected) in [
        ("{{ event.n + 1 }}", "8"),
        ("{{ event.n * 2.5 }}", "17.5"),
        ("{{ event.n / 2 }}", "3.5"),
        ("{{ event.n // 2 - 10 }}", "-7"),
        ("{{ event.n % 4 }}", "3"),
        ("{{ 'a' ~ event.n ~ none }}", "\"a7null\""),
        ("{{ 'a' + 'b' }}", "\"ab\""),
        ("{{ event.n > 6 and event.n <= 7 and not event.missing }}", "true"),
        ("{{ event.missing == none }}", "false"),
        ("{{ event.missing > 1 }}", "false"),
        ("{{ 2 in event.list }}", "true"),
        ("{{ 'me' in event.s and 'a' in event.m and 'z' not in event.m }}", "true"),
        ("{{ event.s | trim | upper }}", "\"SOME TEXT\""),
        ("{{ event.s | trim | title }}", "\"Some Text\""),
        ("{{ event.s | replace('e', '3') | trim }}", "\"Som3 t3xt\""),
        ("{{ event.s | trim | truncate(4) }}", "\"Some\""),
        ("{{ event.s | split | join('-') }}", "\"Some-text\""),
        ("{{ event.list | sort }}", "[1,2,3,3]"),
        ("{{ event.list | unique }}", "[3,1,2]"),
        ("{{ event.list | reverse | first }}", "3"),
        ("{{ event.list | last }}", "3"),
        ("{{ event.list | sum + (event.list | max) - (event.list | min) }}", "11"),
        ("{{ event.list | length }}", "4"),
        ("{{ event.rows | map(attribute='id') | list }}", "[1,2]"),
        ("{{ event.rows | selectattr('ok') | map(attribute='id') }}", "[1]"),
        ("{{ event.rows | selectattr('id', 'gt', 1) | map(attribute='id') }}", "[2]"),
        ("{{ event.rows | rejectattr('ok') }}", "[{\"id\":2,\"ok\":false}]"),
        ("{{ event.m | items }}", "[[\"a\",2],[\"b\",1]]"),
        ("{{ event.nick | default('nobody') }}", "\"nobody\""),
        ("{{ event.nick is defined }}", "false"),
        ("{{ event.n is number and event.s is string and event.list is sequence and event.m is mapping }}", "true"),
        ("{{ event.n is odd and event.n is divisibleby(7) and event.n is in([7]) }}", "true"),
        ("{{ '12' | int + ('1.5' | float) }}", "13.5"),
        ("{{ 'x' | int(0) }}", "0"),
        ("{{ 2.345 | round(2) }}", "2.35"),
        ("{{ -3 | abs }}", "3"),
        ("{{ 'yes' if event.n == 7 else 'no' }}", "\"yes\""),
        ("{{ {'a': event.n, 'b': [event.s | trim, none]} }}", "{\"a\":7,\"b\":[\"Some text\",null]}"),
        (
            "[{% for x in event.list if x > 1 %}{{ x * 10 }}{% if not loop.last %},{% endif %}{% endfor %}]",
            "[30,20,30]",
        ),
        (
            "{ {%- for k, v in event.m | items %}{{ k }}: {{ v }}{% if not loop.last %}, {% endif %}{% endfor -%} }",
            "{\"a\": 2, \"b\": 1}",
        ),
        ("{% set x = event.n %}{% with y = x + 1 %}[{{ x }}, {{ y }}]{% endwith %}", "[7, 8]"),
        ("[{% for i in range(3) %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}]", "[0,1,2]"),
        ("{# nothing #}\n  1  \n", "1"),
    ] {
        let made = rendered(template, event.clone());
        let same = serde_json::from_str::<Json>(&made).unwrap() == serde_json::from_str::<Json>(expected).unwrap();
        assert!(same, "{template} gave {made}");
    }
}

#[test]
fn failures_say_where_and_what() {
    for (template, event, part) in [
        ("{\"a\":\n {{ event.nick }}}", json!({}), "line 2 of the template"),
        ("{{ event.nick.name }}", json!({}), "is missing"),
        ("{{ event.n + event.s }}", json!({"n": 1, "s": "x"}), "needs two numbers, has number and string"),
        ("{{ event.n / 0 }}", json!({"n": 1}), "unable to calculate 1 / 0"),
        (
            "{\"a\": {% if event.x %}1{% endif %}{% if not event.y %}1{% endif %}}",
            json!({"y": true}),
            "the output is not JSON",
        ),
        ("{{ event.s | int }}", json!({"s": "x"}), "is no number"),
        ("{{ event.s | upper }}", json!({"s": 1}), "string"),
        ("{{ event.list | join }}", json!({"list": [[1]]}), "needs a text or a number"),
        ("{{ event.x | items }}", json!({"x": 1}), "needs an object"),
    ] {
        let message = failure(template, event);
        assert!(message.contains(part), "{template}: {message}");
    }
    assert!(
        failure("{{ event.nick }}", json!({})).contains("event.nick"),
        "{}",
        failure("{{ event.nick }}", json!({}))
    );
}

#[test]
fn what_is_not_available_is_refused_with_its_line() {
    for (template, line, part) in [
        ("\n{{ event.a[1:2] }}", 2, "slices"),
        ("{{ event.a() }}", 1, "only range() can be called"),
        ("{{ dict(a=1) }}", 1, "only range() can be called"),
        ("{{ event.a | safe }}", 1, "no filter \"safe\""),
        ("{{ event.a is sameas(1) }}", 1, "no test \"sameas\""),
        ("{{ 1 < event.a < 3 }}", 1, "in a row"),
        ("{{ 2 ** 3 }}", 1, "**"),
        ("{{ {event.a: 1} }}", 1, "texts in quotes"),
        ("{% set event = 1 %}{{ event }}", 1, "cannot be set"),
        ("{% set x %}1{% endset %}{{ x }}", 1, "not available"),
        ("{% macro m() %}{% endmacro %}1", 1, "not available"),
        ("1{% for x in event recursive %}{{ loop(x) }}{% endfor %}", 1, "recursive"),
        ("{{ foo }}", 1, "no variable \"foo\""),
        ("{{ event.a | wsgateway_json }}", 0, "taken"),
    ] {
        let error = Template::compile(template).unwrap_err();
        assert!(error.message.contains(part), "{template}: {error:?}");
        assert_eq!(error.line.unwrap_or(0), line, "{template}: {error:?}");
    }
}

#[test]
fn templates_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Template>();
    let template = Arc::new(Template::compile("{\"n\": {{ event.n }}}").unwrap());
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let template = template.clone();
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    assert_eq!(template.render(context(json!({"n": n}))).unwrap(), format!("{{\"n\": {n}}}"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
