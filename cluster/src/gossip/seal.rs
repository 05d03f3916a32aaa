//! The sealed datagram: pure. Called by `socket`; imports `replay` and `refusals`.
//!
//! ```text
//! "WSGG" │ format 1 │ label's length 1 │ label │ run 16 │ number 8 │ sealed message │ tag 16
//! ```
//!
//! Integers are big-endian. Everything before the message is readable and authenticated. The key is AES-256-GCM-SIV's,
//! made by HKDF-SHA256 of the cluster secret for one run of one sender, and the nonce is the number: so a nonce cannot
//! repeat under a key unless a whole machine is copied while it runs; then SIV gives away no more than that two
//! datagrams are equal.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM_SIV, NONCE_LEN};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{Prk, Salt, HKDF_SHA256};

use super::refusals::Refusal;
use super::replay::{RunId, Runs, RUNS_MAX};

const MAGIC: [u8; 4] = *b"WSGG";
/// Raised when old nodes would misread what new ones send.
const FORMAT: u8 = 1;
/// What chitchat's own datagrams begin with (45139, little-endian).
const CHITCHAT_MAGIC: [u8; 2] = 45_139_u16.to_le_bytes();
/// Keeps the keys apart from all other uses of the cluster secret.
const SALT: &[u8] = b"wsgateway gossip datagrams v1";
const KEY_OF_RUN: &[u8] = b"aes-256-gcm-siv of run ";
const NUMBER_BYTES: usize = size_of::<u64>();
/// Its length has one byte.
pub(super) const LABEL_BYTES_MAX: usize = u8::MAX as usize;
/// The most that one UDP datagram carries over IPv4.
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_507;

/// One for each cluster secret, in their order: the first seals, every one opens.
pub(super) fn extract(secrets: &[Vec<u8>]) -> Vec<Prk> {
    secrets.iter().map(|secret| Salt::new(HKDF_SHA256, SALT).extract(secret)).collect()
}

fn key_of_run(secret: &Prk, run: &RunId) -> Result<LessSafeKey, Unspecified> {
    let info = [KEY_OF_RUN, run];
    Ok(LessSafeKey::new(UnboundKey::from(secret.expand(&info, &AES_256_GCM_SIV)?)))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - NUMBER_BYTES..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what this node sends, from its start to its end.
pub(super) struct Sealer {
    key: LessSafeKey,
    /// Up to the run.
    head: Vec<u8>,
    next: u64,
}

impl Sealer {
    /// `label` has at most [`LABEL_BYTES_MAX`].
    pub(super) fn new(secret: &Prk, label: &str, run: &RunId) -> Result<Sealer, Unspecified> {
        let mut head = MAGIC.to_vec();
        head.push(FORMAT);
        head.push(u8::try_from(label.len()).map_err(|_| Unspecified)?);
        head.extend_from_slice(label.as_bytes());
        head.extend_from_slice(run);
        Ok(Sealer { key: key_of_run(secret, run)?, head, next: 0 })
    }

    pub(super) fn seal(&mut self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Unspecified)?;
        let mut datagram =
            Vec::with_capacity(self.head.len() + NUMBER_BYTES + message.len() + AES_256_GCM_SIV.tag_len());
        datagram.extend_from_slice(&self.head);
        datagram.extend_from_slice(&number.to_be_bytes());
        let mut sealed = message.to_vec();
        self.key.seal_in_place_append_tag(nonce(number), Aad::from(&datagram), &mut sealed)?;
        datagram.append(&mut sealed);
        Ok(datagram)
    }
}

/// Opens what others send.
pub(super) struct Opener {
    secrets: Vec<Prk>,
    label: Vec<u8>,
    /// This node's own, which comes back when a seed's name leads here, or when somebody returns it.
    own: RunId,
    runs: Runs<LessSafeKey>,
}

impl Opener {
    pub(super) fn new(secrets: Vec<Prk>, label: &str, own: RunId) -> Opener {
        Opener { secrets, label: label.as_bytes().to_vec(), own, runs: Runs::new(RUNS_MAX) }
    }

    /// The message. What is wrong with a datagram is looked for in the order of [`Refusal`]; nothing is remembered of
    /// one that does not open.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Parts { head, run, number, sealed } = self.parse(datagram)?;
        if let Some(key) = self.runs.key(&run) {
            let message = opened(key, number, head, sealed).ok_or(Refusal::Key)?;
            return if self.runs.take(&run, number) { Ok(message) } else { Err(Refusal::Replay) };
        }
        let keys = self.secrets.iter().filter_map(|secret| key_of_run(secret, &run).ok());
        let opens = |key| opened(&key, number, head, sealed).map(|message| (key, message));
        let (key, message) = { keys }.find_map(opens).ok_or(Refusal::Key)?;
        if run == self.own {
            return Err(Refusal::Own);
        }
        self.runs.insert(run, key, number);
        Ok(message)
    }

    fn parse<'a>(&self, datagram: &'a [u8]) -> Result<Parts<'a>, Refusal> {
        if datagram.starts_with(&CHITCHAT_MAGIC) {
            return Err(Refusal::Plaintext);
        }
        let rest = datagram.strip_prefix(&MAGIC).ok_or(Refusal::Foreign)?;
        let (format, rest) = rest.split_first().ok_or(Refusal::Foreign)?;
        if *format != FORMAT {
            return Err(Refusal::Version);
        }
        let (label_length, rest) = rest.split_first().ok_or(Refusal::Foreign)?;
        let (label, rest) = rest.split_at_checked(usize::from(*label_length)).ok_or(Refusal::Foreign)?;
        if label != self.label {
            return Err(Refusal::Label);
        }
        let (run, rest) = rest.split_first_chunk().ok_or(Refusal::Foreign)?;
        let (number, sealed) = rest.split_first_chunk().ok_or(Refusal::Foreign)?;
        let head = &datagram[..datagram.len() - sealed.len()];
        Ok(Parts { head, run: *run, number: u64::from_be_bytes(*number), sealed })
    }
}

struct Parts<'a> {
    /// Everything before the sealed message.
    head: &'a [u8],
    run: RunId,
    number: u64,
    /// With its tag.
    sealed: &'a [u8],
}

fn opened(key: &LessSafeKey, number: u64, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut in_out = sealed.to_vec();
    let length = key.open_in_place(nonce(number), Aad::from(head), &mut in_out).ok()?.len();
    in_out.truncate(length);
    Some(in_out)
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
