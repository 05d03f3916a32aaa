//! Where the members of objects stand in a document's text, so that one can be replaced without touching a byte beside
//! it, and which object of another version is the same one. Called by secrets; imports nothing of the crate.

use std::ops::Range;

use serde_json::value::RawValue;

/// A range of the document and what takes its place.
pub type Edit = (Range<usize>, String);

/// A step down from an object: into a member that is one, or into each object of a member that is a list.
pub struct Step {
    pub name: &'static str,
    pub list: bool,
    /// Members of the object reached by which it is found again in another version. Of a URL its scheme, host and port.
    pub identity: &'static [&'static str],
}

/// An object at the end of some steps.
pub struct Object<'a> {
    /// `routes[3].backends[0]`
    pub path: String,
    /// Equal for the object in two versions of a document that are the same one. Among those that nothing tells apart
    /// the first is the first only while there are as many of them.
    pub identity: String,
    members: Vec<Member<'a>>,
}

pub struct Member<'a> {
    pub name: String,
    value: &'a RawValue,
    /// From the first quote of the name to the end of the value.
    whole: Range<usize>,
}

impl Member<'_> {
    /// None: its value is no text.
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(self.value.get()).ok()
    }

    /// Replaces its value by this text.
    pub fn set_text(&self, text: &str) -> Edit {
        self.set(&quoted(text))
    }

    fn set(&self, json: &str) -> Edit {
        (self.whole.end - self.value.get().len()..self.whole.end, json.to_owned())
    }
}

impl<'a> Object<'a> {
    /// In their order; a name may be there twice.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// A member's text; None: there is none, or it is no text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.find(name)?.text()
    }

    pub fn find(&self, name: &str) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The member becomes another one of this name and text. Where a null stands for that already, it takes the text, and
    /// the member becomes the null: no field may be there twice.
    pub fn replace(&self, name: &str, by: &str, text: &str) -> Vec<Edit> {
        let Some(member) = self.find(name) else { return Vec::new() };
        match self.find(by) {
            Some(other) => vec![other.set_text(text), member.set("null")],
            None => vec![(member.whole.clone(), format!("{}: {}", quoted(by), quoted(text)))],
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The document with the edits, which do not overlap.
pub fn edited(document: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = document.to_owned();
    for (range, by) in edits.into_iter().rev() {
        text.replace_range(range, &by);
    }
    text
}

/// The objects that the steps lead to. Values of another kind on the way have none.
pub fn objects<'a>(document: &'a str, steps: &[Step]) -> Result<Vec<Object<'a>>, serde_json::Error> {
    let mut found = Vec::new();
    let root = Object { path: String::new(), identity: String::new(), members: Vec::new() };
    collect(document, serde_json::from_str(document)?, steps, root, &mut found)?;
    Ok(found)
}

/// `value` is what `at` tells of.
fn collect<'a>(
    document: &'a str,
    value: &'a RawValue,
    steps: &[Step],
    mut at: Object<'a>,
    found: &mut Vec<Object<'a>>,
) -> Result<(), serde_json::Error> {
    if !value.get().starts_with('{') {
        return Ok(());
    }
    at.members = members(document, value)?;
    let Some((step, rest)) = steps.split_first() else {
        found.push(at);
        return Ok(());
    };
    for member in at.members.iter().filter(|member| member.name == step.name) {
        let path = match at.path.as_str() {
            "" => step.name.to_owned(),
            parent => format!("{parent}.{}", step.name),
        };
        if !step.list {
            let identity = format!("{}/{}", at.identity, identity(document, member.value, step)?);
            let below = Object { path, identity, members: Vec::new() };
            collect(document, member.value, rest, below, found)?;
        } else if member.value.get().starts_with('[') {
            let items = serde_json::from_str::<Vec<&'a RawValue>>(member.value.get())?;
            let own: Result<Vec<_>, _> = items.iter().map(|item| identity(document, item, step)).collect();
            for (index, (item, mine)) in items.into_iter().zip(nth_of_all(&own?)).enumerate() {
                let identity = format!("{}/{mine}", at.identity);
                let below = Object { path: format!("{path}[{index}]"), identity, members: Vec::new() };
                collect(document, item, rest, below, found)?;
            }
        }
    }
    Ok(())
}

/// Items that are told apart by nothing else are so by their place among each other.
fn nth_of_all(own: &[String]) -> Vec<String> {
    let same = |text: &String, among: &[String]| among.iter().filter(|other| *other == text).count();
    own.iter().enumerate().map(|(at, text)| format!("{text}#{}/{}", same(text, &own[..at]), same(text, own))).collect()
}

/// Members that are texts; others tell nothing apart.
fn identity<'a>(document: &'a str, value: &'a RawValue, step: &Step) -> Result<String, serde_json::Error> {
    if step.identity.is_empty() || !value.get().starts_with('{') {
        return Ok(String::new());
    }
    let known = members(document, value)?;
    let text = |name: &&str| {
        let member = known.iter().find(|member| member.name == **name)?;
        member.text().map(|text| origin(&text).to_owned())
    };
    Ok(serde_json::Value::from(step.identity.iter().map(text).collect::<Vec<_>>()).to_string())
}

/// Scheme, host and port of a URL; what is none as it is.
fn origin(text: &str) -> &str {
    let Some(scheme) = text.find("://") else { return text };
    let authority = scheme + "://".len();
    text[authority..].find(['/', '?', '#']).map_or(text, |end| &text[..authority + end])
}

/// `value` is a piece of `document`.
fn members<'a>(document: &'a str, value: &'a RawValue) -> Result<Vec<Member<'a>>, serde_json::Error> {
    let place = |part: &str| part.as_ptr() as usize - document.as_ptr() as usize;
    let Members(listed) = serde_json::from_str(value.get())?;
    let mut cursor = place(value.get()) + 1;
    let mut members = Vec::with_capacity(listed.len());
    for (name, value) in listed {
        // Between two members there is nothing but white space and a comma.
        let start = cursor + document[cursor..].find('"').unwrap_or_default();
        cursor = place(value.get()) + value.get().len();
        members.push(Member { name, value, whole: start..cursor });
    }
    Ok(members)
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
