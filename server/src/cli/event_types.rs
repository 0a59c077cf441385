//! The catalogue of event types from a directory of JSON Schema files, and back.
//!
//! `order.created.json` is the first version of `order.created`, `order.created/2.json` the second; what else is said of types is in
//! [`metadata`]. An import creates the types that are not there and sets the versions that it finds, and all else of those types that the
//! metadata has an entry for; whatever else is said of a type stays, so it can be repeated. Nothing is changed unless all of it can
//! be. It works on the database that is configured, and holds at once for the servers that run on it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use postrider_server::{
    app,
    clock::{Clock, SystemClock},
    config::Config,
    domain::{
        catalogue::{CataloguedType, MAX_TYPES, TypeSpec},
        event_type::EventType,
        invalid::Invalid,
        subscription::Description,
    },
    store::{Store, event_types::Creation, subscriptions::Change},
};

use super::Settings;

mod metadata;

/// What to do with the catalogue.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put the schemas of a directory into the catalogue, `order.created.json` or `order.created/1.json`, and what `@catalogue.json` says
    /// of their types, if it is there.
    Import(Directory),
    /// Write the catalogue into a directory: schemas as `order.created/1.json`, and all else as `@catalogue.json`.
    Export(Directory),
}

#[derive(Debug, Args)]
pub(super) struct Directory {
    /// The directory.
    directory: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// What one file says of a type.
struct Found {
    event_type: EventType,
    schemas: BTreeMap<u32, String>,
}

/// What the files of a directory say of a type.
struct Planned {
    event_type: EventType,
    schemas: BTreeMap<u32, String>,
    entry: Option<metadata::Entry>,
}

/// How much was read or written.
struct Count {
    schemas: usize,
    types: usize,
}

#[expect(clippy::print_stdout, reason = "what these commands are for")]
pub(super) async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Import(Directory { directory, settings }) => {
            // Read before anything is opened: what cannot be read changes nothing.
            let planned = read(&directory)?;
            let store = open(&settings.load()?).await?;
            let imported = import(&store, &directory, planned).await;
            store.close().await;
            let Count { schemas, types } = imported?;
            println!("{schemas} schemas of {types} event types are in the catalogue");
        }
        Command::Export(Directory { directory, settings }) => {
            let store = open(&settings.load()?).await?;
            let exported = export(&store, &directory).await;
            store.close().await;
            let Count { schemas, types } = exported?;
            println!("{schemas} schemas of {types} event types were written");
        }
    }
    Ok(())
}

async fn open(config: &Config) -> Result<Store, Box<dyn Error>> {
    let keyring = app::keyring(config)?;
    postrider_server::store::migrate(&config.database, &config.data.dir).await?;
    Ok(Store::open(&config.database, &config.data.dir, keyring, SystemClock.now()).await?)
}

/// Reads a directory.
fn read(directory: &Path) -> Result<Vec<Planned>, Box<dyn Error>> {
    let mut planned = BTreeMap::new();
    for Found { event_type, schemas } in find_schemas(directory)? {
        planned_of(&mut planned, event_type).schemas.extend(schemas);
    }
    for entry in metadata::read(directory)? {
        let event_type = entry.event_type.clone();
        planned_of(&mut planned, event_type).entry = Some(entry);
    }
    Ok(planned.into_values().collect())
}

fn planned_of(planned: &mut BTreeMap<String, Planned>, event_type: EventType) -> &mut Planned {
    let name = event_type.as_str().to_owned();
    planned.entry(name).or_insert_with(|| Planned { event_type, schemas: BTreeMap::new(), entry: None })
}

/// Finds the schemas of a directory.
fn find_schemas(directory: &Path) -> Result<Vec<Found>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in sorted(directory)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        if name == metadata::FILE_NAME {
            continue;
        }
        if entry.is_dir() {
            for file in sorted(&entry)? {
                let version = stem(&file).and_then(|stem| stem.parse().ok());
                if let Some(version) = version {
                    found.push(read_file(name, version, &file)?);
                }
            }
        } else if let Some(stem) = stem(&entry) {
            found.push(read_file(stem, 1, &entry)?);
        }
    }
    Ok(found)
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let in_directory = |cause| format!("{} cannot be read: {cause}", directory.display());
    let entries = fs::read_dir(directory).map_err(in_directory)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    Ok(paths)
}

/// The name of a JSON file without its extension.
fn stem(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(".json")
}

fn read_file(name: &str, version: i32, path: &Path) -> Result<Found, Box<dyn Error>> {
    let of_file = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let event_type =
        EventType::parse(name).map_err(|invalid| of_file(&format!("the name {}", invalid.reason)))?;
    let text = fs::read_to_string(path).map_err(|cause| of_file(&cause))?;
    let schemas =
        TypeSpec::parse_schemas(vec![(version, text)]).map_err(|invalid| of_file(&invalid.reason))?;
    Ok(Found { event_type, schemas })
}

impl Planned {
    /// Makes of what is known of a type what is to be known.
    fn apply(&self, spec: &mut TypeSpec) -> Result<(), Invalid> {
        spec.schemas.extend(self.schemas.clone());
        if let Some(entry) = &self.entry {
            entry.apply(spec);
        }
        spec.check_versions()?;
        spec.check()
    }

    /// Where what is wrong with it is said.
    fn fault(&self, directory: &Path, invalid: &Invalid) -> String {
        match &self.entry {
            Some(entry) if invalid.field != "schemas" => {
                let file = metadata::path(directory);
                format!("{}: at `{}/{}`: {}", file.display(), entry.pointer, invalid.field, invalid.reason)
            }
            _ => format!("{}: {invalid}", directory.join(self.event_type.as_str()).display()),
        }
    }
}

/// What is known of a type that is new.
fn new_spec() -> Result<TypeSpec, Invalid> {
    Ok(TypeSpec {
        description: Description::parse("")?,
        group: String::new(),
        schemas: BTreeMap::new(),
        current_version: None,
        enforce: false,
        deprecated: false,
    })
}

async fn import(store: &Store, directory: &Path, planned: Vec<Planned>) -> Result<Count, Box<dyn Error>> {
    check(store, directory, &planned).await?;
    for one in &planned {
        write(store, one).await?.map_err(|invalid| one.fault(directory, &invalid))?;
        if let Some(entry) = &one.entry {
            store.archive_event_type(&one.event_type, entry.archived, SystemClock.now()).await?;
        }
    }
    Ok(Count { schemas: planned.iter().map(|one| one.schemas.len()).sum(), types: planned.len() })
}

/// Changes a type that is there, or creates it.
async fn write(store: &Store, one: &Planned) -> Result<Result<(), Invalid>, Box<dyn Error>> {
    let edit = |known: &mut TypeSpec| one.apply(known);
    match store.update_event_type(&one.event_type, None, edit, SystemClock.now()).await? {
        Change::Done(_) | Change::EtagMismatch => return Ok(Ok(())),
        Change::Invalid(invalid) => return Ok(Err(invalid)),
        Change::NotFound => {}
    }
    let mut spec = new_spec()?;
    if let Err(invalid) = one.apply(&mut spec) {
        return Ok(Err(invalid));
    }
    match store.create_event_type(&one.event_type, &spec, SystemClock.now()).await? {
        Creation::Done(_) => Ok(Ok(())),
        Creation::Full => Err(full(&one.event_type).into()),
        Creation::Exists => Err(format!("{}: somebody else creates it; import again", one.event_type).into()),
    }
}

/// Checks all of an import against what is known, before the first of it is written.
async fn check(store: &Store, directory: &Path, planned: &[Planned]) -> Result<(), Box<dyn Error>> {
    let (_, known) = store.whole_catalogue().await?;
    let mut room = MAX_TYPES.saturating_sub(known.len() as u64);
    let mut known: HashMap<String, TypeSpec> =
        known.into_iter().map(|one| (one.event_type.as_str().to_owned(), one.spec)).collect();
    for one in planned {
        let mut spec = if let Some(spec) = known.remove(one.event_type.as_str()) {
            spec
        } else {
            room = room.checked_sub(1).ok_or_else(|| full(&one.event_type))?;
            new_spec()?
        };
        one.apply(&mut spec).map_err(|invalid| one.fault(directory, &invalid))?;
    }
    Ok(())
}

fn full(event_type: &EventType) -> String {
    format!("{event_type}: the catalogue is full; it holds up to {MAX_TYPES} event types")
}

async fn export(store: &Store, directory: &Path) -> Result<Count, Box<dyn Error>> {
    let (_, types) = store.whole_catalogue().await?;
    fs::create_dir_all(directory)?;
    let mut count = Count { schemas: 0, types: types.len() };
    for one in &types {
        count.schemas += write_schemas(one, directory)?;
    }
    metadata::write(&types, directory)?;
    Ok(count)
}

fn write_schemas(one: &CataloguedType, directory: &Path) -> Result<usize, Box<dyn Error>> {
    let folder = directory.join(one.event_type.as_str());
    for (version, text) in &one.spec.schemas {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{version}.json")), text)?;
    }
    Ok(one.spec.schemas.len())
}
