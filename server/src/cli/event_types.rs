//! The catalogue of event types from a directory of JSON Schema files, and back.
//!
//! `order.created.json` is the first version of `order.created`, `order.created/2.json` the second. An import creates the types that are
//! not there and sets the versions that it finds; whatever else is said of a type stays, so it can be repeated. It works on the database that is configured, and holds
//! at once for the servers that run on it.

use std::{
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
        catalogue::{CataloguedType, TypeSpec},
        event_type::EventType,
        page::{PageRequest, PageSize},
        subscription::Description,
    },
    store::{Store, event_types::Creation, subscriptions::Change},
};

use super::Settings;

/// What to do with the catalogue.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put the schemas of a directory into the catalogue: `order.created.json` or `order.created/1.json`.
    Import(Directory),
    /// Write the schemas of the catalogue into a directory: `order.created/1.json`.
    Export(Directory),
}

#[derive(Debug, Args)]
pub(super) struct Directory {
    /// The directory.
    directory: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// A schema of a file.
struct Found {
    event_type: EventType,
    version: i32,
    text: String,
    path: PathBuf,
}

#[expect(clippy::print_stdout, reason = "what these commands are for")]
pub(super) async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Import(Directory { directory, settings }) => {
            // Read before anything is opened: what cannot be read changes nothing.
            let found = read(&directory)?;
            let store = open(&settings.load()?).await?;
            let imported = import(&store, found).await;
            store.close().await;
            println!("{} schemas are in the catalogue", imported?);
        }
        Command::Export(Directory { directory, settings }) => {
            let store = open(&settings.load()?).await?;
            let exported = export(&store, &directory).await;
            store.close().await;
            println!("{} schemas were written", exported?);
        }
    }
    Ok(())
}

async fn open(config: &Config) -> Result<Store, Box<dyn Error>> {
    let keyring = app::keyring(config)?;
    postrider_server::store::migrate(&config.database, &config.data.dir).await?;
    Ok(Store::open(&config.database, &config.data.dir, keyring, SystemClock.now()).await?)
}

/// Finds the schemas of a directory.
fn read(directory: &Path) -> Result<Vec<Found>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in sorted(directory)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        if entry.is_dir() {
            for file in sorted(&entry)? {
                let version = stem(&file).and_then(|stem| stem.parse().ok());
                if let Some(version) = version {
                    found.push(read_file(name, version, file)?);
                }
            }
        } else if let Some(stem) = stem(&entry) {
            found.push(read_file(stem, 1, entry.clone())?);
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

fn read_file(name: &str, version: i32, path: PathBuf) -> Result<Found, Box<dyn Error>> {
    let of_file = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let event_type =
        EventType::parse(name).map_err(|invalid| of_file(&format!("the name {}", invalid.reason)))?;
    let text = fs::read_to_string(&path).map_err(|cause| of_file(&cause))?;
    TypeSpec::parse_schemas(vec![(version, text.clone())]).map_err(|invalid| of_file(&invalid.reason))?;
    Ok(Found { event_type, version, text, path })
}

async fn import(store: &Store, found: Vec<Found>) -> Result<usize, Box<dyn Error>> {
    let count = found.len();
    for Found { event_type, version, text, path } in found {
        let mut spec = TypeSpec {
            description: Description::parse("")?,
            group: String::new(),
            schemas: TypeSpec::parse_schemas(vec![(version, text)])?,
            current_version: None,
            enforce: false,
            deprecated: false,
        };
        let creation = store.create_event_type(&event_type, &spec, SystemClock.now()).await?;
        let of_file = |cause: &str| format!("{}: {cause}", path.display());
        match creation {
            Creation::Done(_) => {}
            Creation::Full => return Err(of_file("the catalogue is full").into()),
            Creation::Exists => {
                let edit = |known: &mut TypeSpec| {
                    known.schemas.append(&mut spec.schemas);
                    known.check_versions()
                };
                match store.update_event_type(&event_type, None, edit, SystemClock.now()).await? {
                    Change::Invalid(invalid) => return Err(of_file(&invalid.to_string()).into()),
                    Change::Done(_) | Change::NotFound | Change::EtagMismatch => {}
                }
            }
        }
    }
    Ok(count)
}

async fn export(store: &Store, directory: &Path) -> Result<usize, Box<dyn Error>> {
    let size = PageSize::parse(1_000).ok_or("a page has no such size")?;
    let mut request = PageRequest { size, after: None };
    let mut count = 0;
    loop {
        let page = store.event_types(request).await?;
        for one in &page.items {
            count += write(one, directory)?;
        }
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(count),
        }
    }
}

fn write(one: &CataloguedType, directory: &Path) -> Result<usize, Box<dyn Error>> {
    let folder = directory.join(one.event_type.as_str());
    for (version, text) in &one.spec.schemas {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{version}.json")), text)?;
    }
    Ok(one.spec.schemas.len())
}
