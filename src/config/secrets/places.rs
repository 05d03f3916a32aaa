//! Where the members of objects stand in a document's text, so that one can be replaced without touching a byte beside
//! it. Called by secrets; imports nothing of the crate.

use std::ops::Range;

use serde_json::value::RawValue;

/// A range of the document and what takes its place.
pub type Edit = (Range<usize>, String);

/// An object's members, in their order.
pub struct Object<'a>(Vec<Member<'a>>);

struct Member<'a> {
    name: String,
    value: &'a RawValue,
    /// From the first quote of the name to the end of the value.
    whole: Range<usize>,
}

impl Object<'_> {
    /// A member's text; None: there is none, or it is no text.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.find(name)?.value.get()).ok()
    }

    /// Replaces a member's value by this JSON; None: there is no such member.
    pub fn set(&self, name: &str, json: &str) -> Option<Edit> {
        let member = self.find(name)?;
        let start = member.whole.end - member.value.get().len();
        Some((start..member.whole.end, json.to_owned()))
    }

    /// Replaces a member with its name.
    pub fn rename(&self, name: &str, member: &str) -> Option<Edit> {
        Some((self.find(name)?.whole.clone(), member.to_owned()))
    }

    fn find(&self, name: &str) -> Option<&Member<'_>> {
        self.0.iter().find(|member| member.name == name)
    }
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

/// The objects at a place: names of members, `[]` behind one stands for each of its list. Values of another kind on the
/// way have none.
pub fn objects<'a>(document: &'a str, steps: &[&str]) -> Result<Vec<Object<'a>>, serde_json::Error> {
    let mut found = Vec::new();
    collect(document, serde_json::from_str(document)?, steps, &mut found)?;
    Ok(found)
}

fn collect<'a>(
    document: &'a str,
    value: &'a RawValue,
    steps: &[&str],
    found: &mut Vec<Object<'a>>,
) -> Result<(), serde_json::Error> {
    if !value.get().starts_with('{') {
        return Ok(());
    }
    let object = Object(members(document, value)?);
    let Some((step, rest)) = steps.split_first() else {
        found.push(object);
        return Ok(());
    };
    let name = step.trim_end_matches("[]");
    for member in object.0.iter().filter(|member| member.name == name) {
        if name.len() == step.len() {
            collect(document, member.value, rest, found)?;
        } else if member.value.get().starts_with('[') {
            for item in serde_json::from_str::<Vec<&'a RawValue>>(member.value.get())? {
                collect(document, item, rest, found)?;
            }
        }
    }
    Ok(())
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
