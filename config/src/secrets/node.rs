//! The secrets of documents on one node: what it keeps of them, and what they stand for here. Called by validate and
//! the store; imports findings and document.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use sha2::{Digest, Sha256};

use crate::document::EndpointDocument;
use crate::findings::{member as member_path, Finding, Findings};
use wsgateway_model::secret::SecretsSettings;

use super::keyring::{Keyring, ENCRYPTED};
use super::places::{edited, Edit, Member, Object};
use super::references::{check_syntax, has_reference, is_reference, names_file, Policy};
use super::{same_object, Kept, Members, SecretField, ENCRYPTED_REDACTED, FIELDS, HIDDEN};

/// What a node knows. The default knows nothing, and serves no client: references stay as they are written, and an
/// encrypted text becomes a word that says so. That is how events are explained and files checked.
#[derive(Clone, Default)]
pub struct NodeSecrets(Option<Arc<Known>>);

struct Known {
    keys: Keyring,
    policy: Policy,
}

impl fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "NodeSecrets of a node" } else { "NodeSecrets of nobody" })
    }
}

impl NodeSecrets {
    pub fn new(
        cluster_secrets: &[String],
        settings: &SecretsSettings,
    ) -> Result<NodeSecrets, aws_lc_rs::error::Unspecified> {
        let known = Known { keys: Keyring::new(cluster_secrets)?, policy: Policy::new(settings) };
        Ok(NodeSecrets(Some(Arc::new(known))))
    }

    /// Reports secrets that cannot be kept as they are written.
    pub fn check(&self, document: &str, findings: &mut Findings) -> Result<(), serde_json::Error> {
        let no_key = self.0.as_ref().is_some_and(|known| known.keys.is_empty());
        each_member(document, |field, object, member, text| {
            let path = member_path(&object.path, &member.name);
            let twice = object.members().iter().filter(|other| other.name == member.name).count() > 1;
            if twice && matches!(field.members, Members::Headers) {
                findings.add(path.as_str(), "is there twice");
            }
            if has_reference(text) {
                let sound = findings.take(path.as_str(), check_syntax(text)).is_some();
                if sound && matches!(field.members, Members::Named(_)) && !is_reference(text) {
                    findings.add(path, "must be one reference (${env:NAME} or ${file:/path}) and nothing beside it");
                }
                return;
            }
            let Kept::Encrypted = field.kept else { return };
            if text == ENCRYPTED_REDACTED {
                let message = "is redacted, and what is stored has none for the same service: send the secret again";
                findings.add(path, message);
            } else if text == HIDDEN && matches!(field.members, Members::Named(_)) {
                findings.add(path, "is what stands for a secret that is not shown: send the secret itself");
            } else if text.is_empty() && matches!(field.members, Members::Named(_)) {
                findings.add(path, "must not be empty");
            } else if no_key && field.holds_secret(member) && !text.starts_with(ENCRYPTED) {
                let message = "is kept encrypted, and this cluster has no key: set cluster.secrets on its nodes, or \
                               write a reference (${env:NAME} or ${file:/path})";
                findings.add(path, message);
            }
        })
    }

    /// The document with what its references and encrypted texts stand for on this node. What cannot be had is reported
    /// and stays as it is written.
    pub fn revealed(&self, document: &str, findings: &mut Findings) -> Result<String, serde_json::Error> {
        let mut edits = Vec::new();
        each_member(document, |field, object, member, text| {
            let encrypted = matches!(field.kept, Kept::Encrypted) && text.starts_with(ENCRYPTED);
            let plain = match &self.0 {
                Some(known) if has_reference(text) => known.policy.resolved(text),
                Some(known) if encrypted && text != ENCRYPTED_REDACTED => {
                    let opened = known.keys.open(&field.place(member), text);
                    opened.map(|plain| plain.expose().to_owned()).map_err(|error| error.to_string())
                }
                None if encrypted => Ok(HIDDEN.to_owned()),
                _ => return,
            };
            if let Some(plain) = findings.take(member_path(&object.path, &member.name), plain) {
                edits.push(member.set_text(&plain));
            }
        })?;
        Ok(edited(document, edits))
    }

    /// A stored document, ready to be compiled: its secrets are in plain in their fields.
    pub fn read(&self, document: &str) -> Result<EndpointDocument, Vec<Finding>> {
        let mut findings = Findings::default();
        let read = self.revealed(document, &mut findings).and_then(|text| serde_json::from_str(&text));
        let read = findings.take("", read);
        match (findings.0.is_empty(), read) {
            (true, Some(document)) => Ok(document),
            _ => Err(findings.0),
        }
    }

    /// The document as it may be stored: literal secrets become hashes and encrypted texts, and the bytes of everything
    /// else stay. One that `previous` has as the same secret keeps what is stored there, so that nothing has changed.
    /// For validated documents. Takes tens of milliseconds a password: not for a thread that carries connections.
    pub fn kept(&self, document: &str, previous: Option<&str>) -> Result<String, serde_json::Error> {
        self.keep(document, previous, true)
    }

    /// As `kept`, to be compared with `previous`: that its texts are encrypted under an older key makes no difference.
    pub fn kept_to_compare(&self, document: &str, previous: &str) -> Result<String, serde_json::Error> {
        self.keep(document, Some(previous), false)
    }

    /// `newer` with the encrypted texts of `older` where both hide the same secret; both are stored documents.
    pub fn comparable(&self, newer: &str, older: &str) -> Result<String, serde_json::Error> {
        let mut edits = Vec::new();
        let Some(Known { keys, .. }) = self.0.as_deref() else { return Ok(newer.to_owned()) };
        for field in FIELDS.iter().filter(|field| matches!(field.kept, Kept::Encrypted)) {
            let known = field.objects(older)?;
            for object in field.objects(newer)? {
                let Some(before) = same_object(&known, &object) else { continue };
                for (member, text) in field.members(&object).filter(|(_, text)| text.starts_with(ENCRYPTED)) {
                    let place = field.place(member);
                    let Some(other) = before.text(&member.name) else { continue };
                    let (one, two) = (keys.open(&place, &text), keys.open(&place, &other));
                    if one.is_ok() && one == two {
                        edits.push(member.set_text(&other));
                    }
                }
            }
        }
        Ok(edited(newer, edits))
    }

    fn keep(&self, document: &str, previous: Option<&str>, renew: bool) -> Result<String, serde_json::Error> {
        let mut edits = Vec::new();
        for field in FIELDS {
            let known = previous.map(|text| field.objects(text)).transpose()?.unwrap_or_default();
            for object in field.objects(document)? {
                let before = same_object(&known, &object);
                for (member, text) in field.members(&object).filter(|(_, text)| !has_reference(text)) {
                    match field.kept {
                        Kept::Hashed(hashing, stored) => {
                            let kept = before.and_then(|other| other.text(stored));
                            let hash = match kept.filter(|kept| hashing.matches(&text, kept)) {
                                Some(kept) => kept,
                                None => hashing.hash(&text)?,
                            };
                            edits.extend(object.replace(&member.name, stored, &hash));
                        }
                        Kept::Encrypted => {
                            let kept = before.and_then(|other| other.text(&member.name));
                            edits.extend(self.encrypted(field, member, &text, kept, renew)?);
                        }
                        Kept::Plain => {}
                    }
                }
            }
        }
        Ok(edited(document, edits))
    }

    /// What takes the place of a literal or of a text that is encrypted already; `kept` is what is stored there now.
    fn encrypted(
        &self,
        field: &SecretField,
        member: &Member<'_>,
        text: &str,
        kept: Option<String>,
        renew: bool,
    ) -> Result<Option<Edit>, serde_json::Error> {
        let is_encrypted = text.starts_with(ENCRYPTED);
        if !is_encrypted && !field.holds_secret(member) {
            return Ok(None);
        }
        let no_key = || serde_json::Error::custom("there is no key to encrypt with");
        let Some(Known { keys, .. }) = self.0.as_deref() else { return Err(no_key()) };
        let place = field.place(member);
        let plain = match is_encrypted {
            false => text.to_owned(),
            true => match keys.open(&place, text) {
                Ok(plain) => plain.expose().to_owned(),
                // Not readable here: no reason to lose it.
                Err(_) => return Ok(None),
            },
        };
        let is_same = |kept: &String| {
            let usable = !renew || keys.is_current(kept);
            usable && keys.open(&place, kept).is_ok_and(|before| before.expose() == plain)
        };
        let sealed = match kept.filter(is_same) {
            Some(kept) => kept,
            None if is_encrypted && (!renew || keys.is_current(text)) => return Ok(None),
            None => keys.seal(&place, &plain).map_err(|_| no_key())?,
        };
        Ok(Some(member.set_text(&sealed)))
    }

    /// Of a request, to tell a repeated one: keyed where there is a key, since it is stored and the request may hold a
    /// password.
    pub fn digest(&self, parts: &[&[u8]]) -> String {
        let keyed = self.0.as_deref().and_then(|known| known.keys.digest(parts));
        keyed.unwrap_or_else(|| format!("{:x}", Sha256::digest(parts.concat())))
    }

    /// Tells whether files that a document refers to have changed: their contents as a digest, or that they cannot be
    /// read. None: it refers to no files.
    pub fn fingerprint(&self, document: &str) -> Option<[u8; 32]> {
        let known = self.0.as_deref()?;
        let mut digest = None;
        let of_files = |_: &SecretField, _: &Object<'_>, _: &Member<'_>, text: &str| {
            if names_file(text) {
                let digest: &mut Sha256 = digest.get_or_insert_default();
                let seen = known.policy.resolved(text).unwrap_or_else(|error| format!("\0{error}"));
                digest.update(Sha256::digest(seen));
            }
        };
        each_member(document, of_files).ok()?;
        digest.map(|digest| digest.finalize().into())
    }
}

/// Reports encrypted texts in a document that somebody sends: nodes alone write them, or one that was found in a file
/// could be had decrypted by another endpoint.
pub fn check_sent(document: &str) -> Result<Vec<Finding>, serde_json::Error> {
    let mut findings = Findings::default();
    each_member(document, |field, object, member, text| {
        let encrypted = text.starts_with(ENCRYPTED) && text != ENCRYPTED_REDACTED;
        if matches!(field.kept, Kept::Encrypted) && encrypted {
            let message = "must not begin with \"enc:\": send the secret itself, or what reading shows";
            findings.add(member_path(&object.path, &member.name), message);
        }
    })?;
    Ok(findings.0)
}

/// Every member that may hold a secret, and its text.
fn each_member(
    document: &str,
    mut take: impl FnMut(&SecretField, &Object<'_>, &Member<'_>, &str),
) -> Result<(), serde_json::Error> {
    for field in FIELDS {
        for object in field.objects(document)? {
            for (member, text) in field.members(&object) {
                take(field, &object, member, &text);
            }
        }
    }
    Ok(())
}
