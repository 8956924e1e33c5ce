// Package quorum owns who must have cosigned a checkpoint: trust policies (C2SP
// tlog-policy) and Ed25519 cosignatures (C2SP tlog-cosignature). It is pure: what a
// witness is asked, and when, is witness's.
package quorum
