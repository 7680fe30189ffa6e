//! A store around which a test puts something: a fault, a count, a pause, a clock.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::store::{Added, Cursor, Name, Page, Row, Store, StoreError, Table};

/// A verb of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Add,
    Get,
    Take,
    Replace,
    Rename,
    Page,
    Changes,
}

/// What a test puts around a store.
#[async_trait]
pub trait Around: Send + Sync + std::fmt::Debug {
    /// The store that answers.
    fn within(&self) -> Arc<dyn Store>;

    /// Comes before a verb; an error comes in its place.
    async fn before(&self, _: Verb) -> Result<(), StoreError> {
        Ok(())
    }

    /// Comes after a verb, and before its answer.
    async fn after(&self, _: Verb, _: Table) {}

    /// What is told of a part of a table.
    fn told(&self, page: Page) -> Page {
        page
    }
}

/// The store with what is around it.
#[derive(Debug)]
pub struct Faulty<A>(pub A);

#[async_trait]
impl<A: Around> Store for Faulty<A> {
    async fn add(&self, table: Table, name: &Name, row: Row) -> Result<Added, StoreError> {
        self.0.before(Verb::Add).await?;
        let answer = self.0.within().add(table, name, row).await;
        self.0.after(Verb::Add, table).await;
        answer
    }
    async fn get(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.before(Verb::Get).await?;
        let answer = self.0.within().get(table, name).await;
        self.0.after(Verb::Get, table).await;
        answer
    }
    async fn take(&self, table: Table, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.before(Verb::Take).await?;
        let answer = self.0.within().take(table, name).await;
        self.0.after(Verb::Take, table).await;
        answer
    }
    async fn replace(&self, table: Table, name: &Name, before: &[u8], row: Row) -> Result<bool, StoreError> {
        self.0.before(Verb::Replace).await?;
        let answer = self.0.within().replace(table, name, before, row).await;
        self.0.after(Verb::Replace, table).await;
        answer
    }
    async fn rename(&self, table: Table, name: &Name, before: &[u8], to: &Name, row: Row) -> Result<bool, StoreError> {
        self.0.before(Verb::Rename).await?;
        let answer = self.0.within().rename(table, name, before, to, row).await;
        self.0.after(Verb::Rename, table).await;
        answer
    }
    async fn page(&self, table: Table, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.0.before(Verb::Page).await?;
        let answer = self.0.within().page(table, from).await;
        self.0.after(Verb::Page, table).await;
        answer.map(|page| self.0.told(page))
    }
    async fn changes(&self, table: Table) -> Result<u64, StoreError> {
        self.0.before(Verb::Changes).await?;
        let answer = self.0.within().changes(table).await;
        self.0.after(Verb::Changes, table).await;
        answer
    }
}
