// Package audit owns the rules of the record and the transparency log, without
// SQL: the table of record kinds, the binary entry and its commitments
// (mechanisms E1, E2), Merkle tiles (C2SP tlog-tiles), checkpoints (C2SP
// tlog-checkpoint), proofs (C2SP tlog-proof), verification of a whole log
// (E13), the counters that stand for refusals of unknown callers (E5) and the
// plain sentence for each record.
//
// A record becomes a Row (Writer.Seal), a row gets a place in the log when the
// sequencer numbers it and integrates its leaf (Integrate), and the log is
// signed (SignCheckpoint). What a row says is bound twice: the leaf covers the
// entry, and the entry holds a salted commitment to each part, the first of
// which covers every other column of the row.
//
// The package leaves to others: storing rows and tiles and the sequencer's lease
// (store), when to write a record (act), where the log key and the people's
// record keys live (keyring, account), retention and witnesses.
package audit
