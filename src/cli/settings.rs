//! `wsgateway settings`: each value with its origin. Secrets are not shown.

use clap::Args;

use super::serve::Flags;
use crate::settings::{layers, origin, SECRET_KEYS};

#[derive(Args)]
pub struct ShowSettings {
    #[command(flatten)]
    flags: Flags,
}

impl ShowSettings {
    pub fn run(self) -> anyhow::Result<()> {
        let figment = layers(self.flags.config.as_ref(), self.flags.to_dict());
        let loaded = crate::settings::load(self.flags.config.as_ref(), self.flags.to_dict());
        let all: figment::value::Dict = figment.extract()?;
        for (section, keys) in &all {
            let figment::value::Value::Dict(_, keys) = keys else { continue };
            for (key, value) in keys {
                let name = format!("{section}.{key}");
                let origin = figment
                    .find_metadata(&name)
                    .map_or("default".to_owned(), |metadata| origin(&metadata.name).to_owned());
                let set = match value {
                    figment::value::Value::Empty(..) => false,
                    figment::value::Value::Array(_, items) => !items.is_empty(),
                    figment::value::Value::Dict(_, members) => !members.is_empty(),
                    _ => true,
                };
                let shown = if set && SECRET_KEYS.contains(&name.as_str()) {
                    "(secret)".to_owned()
                } else {
                    serde_json::to_string(value)?
                };
                println!("{name} = {shown}    # {origin}");
            }
        }
        loaded?;
        Ok(())
    }
}
