//! The catalogue of event types.
//!
//! Every change raises the catalogue's version and, with it, those of all tenants' match tables, in its transaction. So a publish that
//! begins after a change was answered finds its match table out of date, reads it again together with the catalogue's version, and with that
//! the catalogue: the change holds on every node, and publishing looks at nothing that it did not look at before. A change costs an update
//! of every tenant's row and a reading of its match table; changes of the catalogue are rare.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    Error, Store,
    entity::{catalogue, event_types, tenants},
    page,
    subscriptions::Change,
};
use crate::domain::{
    catalogue::{CataloguedType, MAX_TYPES, TypeSpec},
    event_type::EventType,
    id::EventId,
    invalid::Invalid,
    page::{Page, PageRequest},
    subscription::Description,
    timestamp::Timestamp,
};

/// What became of a creation.
#[derive(Debug)]
pub enum Creation {
    /// It was made.
    Done(CataloguedType),
    /// There is one.
    Exists,
    /// There are as many as there may be.
    Full,
}

impl Store {
    /// Puts a type into the catalogue.
    pub async fn create_event_type(
        &self,
        event_type: &EventType,
        spec: &TypeSpec,
        now: Timestamp,
    ) -> Result<Creation, Error> {
        let mut row = event_types::Model {
            uid: EventId::new(now).uuid(),
            event_type: event_type.as_str().to_owned(),
            description: String::new(),
            group_name: String::new(),
            schemas: String::new(),
            current_version: None,
            enforce: false,
            deprecated: false,
            archived_at: None,
            revision: 1,
            created_at: now.as_micros(),
            updated_at: now.as_micros(),
        };
        write_spec(&mut row, spec);
        let transaction = self.connections.begin().await?;
        raise_version(&transaction).await?;
        let count = event_types::Entity::find().count(&transaction).await?;
        let inserted = event_types::Entity::insert(row.clone().into_active_model())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&transaction)
            .await?;
        if inserted != 1 || count >= MAX_TYPES {
            transaction.rollback().await?;
            return Ok(if inserted == 1 { Creation::Full } else { Creation::Exists });
        }
        transaction.commit().await?;
        read(row).map(Creation::Done)
    }

    /// Reads a type.
    pub async fn event_type(&self, event_type: &EventType) -> Result<Option<CataloguedType>, Error> {
        named(event_type).one(&self.connections.reader).await?.map(read).transpose()
    }

    /// Lists types, newest first.
    pub async fn event_types(&self, request: PageRequest) -> Result<Page<CataloguedType>, Error> {
        let mut query = event_types::Entity::find();
        if let Some(after) = request.after {
            query = query.filter(event_types::Column::Uid.lt(after.0));
        }
        let rows = query
            .order_by_desc(event_types::Column::Uid)
            .limit(page::limit(request))
            .all(&self.connections.reader)
            .await?;
        page::cut(rows, request, |row| row.uid, read)
    }

    /// Replaces what is said of a type by what `edit` makes of it.
    pub async fn update_event_type(
        &self,
        event_type: &EventType,
        etag: Option<&str>,
        edit: impl FnOnce(&mut TypeSpec) -> Result<(), Invalid>,
        now: Timestamp,
    ) -> Result<Change<CataloguedType>, Error> {
        self.change_event_type(event_type, etag, now, |row, mut spec| {
            edit(&mut spec)?;
            write_spec(row, &spec);
            Ok(())
        })
        .await
    }

    /// Archives a type, or takes that back; one that is as it is to be stays so.
    pub async fn archive_event_type(
        &self,
        event_type: &EventType,
        archived: bool,
        now: Timestamp,
    ) -> Result<Change<CataloguedType>, Error> {
        self.change_event_type(event_type, None, now, |row, _| {
            row.archived_at = archived.then(|| row.archived_at.unwrap_or(now.as_micros()));
            Ok(())
        })
        .await
    }

    /// Takes a type out of the catalogue.
    pub async fn delete_event_type(
        &self,
        event_type: &EventType,
        etag: Option<&str>,
    ) -> Result<Change<()>, Error> {
        let transaction = self.connections.begin().await?;
        raise_version(&transaction).await?;
        let Some(row) = named(event_type).one(&transaction).await? else { return Ok(Change::NotFound) };
        let uid = row.uid;
        if etag.is_some_and(|etag| read(row).is_ok_and(|current| current.etag() != etag)) {
            return Ok(Change::EtagMismatch);
        }
        event_types::Entity::delete_by_id(uid).exec(&transaction).await?;
        transaction.commit().await?;
        Ok(Change::Done(()))
    }

    /// The version of the catalogue.
    pub async fn catalogue_version(&self) -> Result<i64, Error> {
        Ok(catalogue_version(&self.connections.reader).await?)
    }

    /// The whole catalogue, with its version.
    pub async fn whole_catalogue(&self) -> Result<(i64, Vec<CataloguedType>), Error> {
        // Not by the readers' connections, as match tables. The version first: if a change comes in between, the types are newer than
        // the version says, and are read again.
        let reader = &self.connections.writer;
        let version = catalogue_version(reader).await?;
        let rows = event_types::Entity::find().all(reader).await?;
        Ok((version, rows.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    async fn change_event_type(
        &self,
        event_type: &EventType,
        etag: Option<&str>,
        now: Timestamp,
        edit: impl FnOnce(&mut event_types::Model, TypeSpec) -> Result<(), Invalid>,
    ) -> Result<Change<CataloguedType>, Error> {
        let transaction = self.connections.begin().await?;
        // First of all: whoever changes the catalogue is alone from here on.
        raise_version(&transaction).await?;
        let Some(before) = named(event_type).one(&transaction).await? else { return Ok(Change::NotFound) };
        let current = read(before.clone())?;
        if etag.is_some_and(|etag| etag != current.etag()) {
            return Ok(Change::EtagMismatch);
        }
        let mut after = before.clone();
        if let Err(invalid) = edit(&mut after, current.spec.clone()) {
            return Ok(Change::Invalid(invalid));
        }
        if after == before {
            return Ok(Change::Done(current));
        }
        after.revision += 1;
        after.updated_at = now.as_micros();
        after.clone().into_active_model().reset_all().update(&transaction).await?;
        transaction.commit().await?;
        Ok(Change::Done(read(after)?))
    }
}

/// The catalogue's version.
pub(super) async fn catalogue_version(connection: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let row = catalogue::Entity::find_by_id(1_i16).one(connection).await?;
    Ok(row.map_or(0, |row| row.version))
}

/// Tells every node that the catalogue is no longer what it was.
async fn raise_version(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    catalogue::Entity::update_many()
        .col_expr(catalogue::Column::Version, Expr::col(catalogue::Column::Version).add(1))
        .exec(transaction)
        .await?;
    if transaction.get_database_backend() != DbBackend::Sqlite {
        // In the order of the bytes of their ids, like whoever raises the versions of some: otherwise each may wait for the other.
        let all = tenants::Entity::find().select_only().column(tenants::Column::Id);
        let locked = all.order_by_asc(tenants::Column::Id).lock_exclusive();
        let _: Vec<String> = locked.into_tuple().all(transaction).await?;
    }
    tenants::Entity::update_many()
        .col_expr(
            tenants::Column::SubscriptionsVersion,
            Expr::col(tenants::Column::SubscriptionsVersion).add(1),
        )
        .exec(transaction)
        .await?;
    Ok(())
}

fn named(event_type: &EventType) -> sea_orm::Select<event_types::Entity> {
    event_types::Entity::find().filter(event_types::Column::EventType.eq(event_type.as_str()))
}

fn read(row: event_types::Model) -> Result<CataloguedType, Error> {
    let corrupt =
        |cause: serde_json::Error| Error::Corrupt { table: "event_types", cause: cause.to_string() };
    let schemas: BTreeMap<u32, String> = serde_json::from_str(&row.schemas).map_err(corrupt)?;
    Ok(CataloguedType {
        uid: row.uid,
        event_type: EventType::from_stored(&row.event_type),
        spec: TypeSpec {
            description: Description::from_stored(row.description),
            group: row.group_name,
            schemas,
            current_version: row.current_version.and_then(|version| u32::try_from(version).ok()),
            enforce: row.enforce,
            deprecated: row.deprecated,
        },
        archived_at: row.archived_at.map(Timestamp::from_micros),
        revision: row.revision,
        created_at: Timestamp::from_micros(row.created_at),
        updated_at: Timestamp::from_micros(row.updated_at),
    })
}

fn write_spec(row: &mut event_types::Model, spec: &TypeSpec) {
    spec.description.as_str().clone_into(&mut row.description);
    row.group_name.clone_from(&spec.group);
    // Texts by number always serialise.
    row.schemas = serde_json::to_string(&spec.schemas).unwrap_or_default();
    row.current_version = spec.current_version.and_then(|version| i32::try_from(version).ok());
    row.enforce = spec.enforce;
    row.deprecated = spec.deprecated;
}
