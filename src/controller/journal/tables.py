"""What is in the journal's file: its tables, and which of them the next life of the cluster has no use for."""

from __future__ import annotations

SCHEMA = 6
"""Raise it when a table or an entry changes: an older file is then set aside, not misread."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clients (no INTEGER PRIMARY KEY, peer BLOB, name TEXT, pid INT, host TEXT, cancel INT,
    patience_s REAL, acked INT DEFAULT 0, ended INT DEFAULT 0);
CREATE TABLE IF NOT EXISTS heard (peer BLOB PRIMARY KEY, have INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS functions (digest BLOB PRIMARY KEY, pickled BLOB, unused REAL);
CREATE TABLE IF NOT EXISTS owners (digest BLOB, owner INT, PRIMARY KEY (digest, owner)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nannies (peer BLOB PRIMARY KEY, host TEXT, pid INT, cores INT, head INT,
    resources BLOB, store BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS engines (id INTEGER PRIMARY KEY, incarnation INT, nanny BLOB, host TEXT, pid INT,
    state TEXT, failures INT, retiring INT, reason TEXT);
CREATE TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY, incarnation INT);
CREATE TABLE IF NOT EXISTS setups (no INTEGER PRIMARY KEY, name TEXT, payload BLOB, objects BLOB);
CREATE TABLE IF NOT EXISTS objects (id BLOB PRIMARY KEY, nbytes INT, holders BLOB, gone REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_gone ON objects (gone) WHERE gone IS NOT NULL;
CREATE TABLE IF NOT EXISTS submitted (id INTEGER PRIMARY KEY, client INT, first INT, last INT, at REAL,
    nbytes INT, ended REAL DEFAULT 0, open BLOB, message BLOB, frames BLOB);
CREATE INDEX IF NOT EXISTS submitted_first ON submitted (first, last);
CREATE TABLE IF NOT EXISTS needs (submission INTEGER PRIMARY KEY, first INT, last INT);
CREATE TABLE IF NOT EXISTS labels (label TEXT, submission INT, PRIMARY KEY (label, submission)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, moves BLOB);
CREATE TABLE IF NOT EXISTS delivered (id INTEGER PRIMARY KEY, client INT, seq INT, results INT, first INT,
    last INT, at REAL, nbytes INT, message BLOB, frames BLOB);
CREATE INDEX IF NOT EXISTS delivered_first ON delivered (first, last);
"""

# `functions.unused` says since when nobody has needed a function but for what was submitted before: as long as that is
# kept, it may be submitted again. (A table of which submission uses which would cost a write for each lone call.)

OF_A_LIFE = ("clients", "heard", "owners", "nannies", "engines", "gone", "moves", "setups", "objects")
"""Tables of which a new life of the cluster has no use."""
