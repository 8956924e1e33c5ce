// Package lineage owns who descends from whom: the nodes that can be ended, the
// graph between them, and the handles by which an enforcement point knows an
// ended ancestor (mechanisms C). Liveness is judged through ancestors at use
// and never stored on a child. The feed that carries ended handles to
// enforcement points lives in package feed; the rows in store.
package lineage

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Kind is the kind of a node (mechanisms C1). The numbers go into handles and
// never change.
type Kind uint8

// The kinds.
const (
	Person Kind = iota + 1
	Service
	Session
	Grant
	Family
	Delegation
	Run
	Client
	AgentInstance
	Blueprint
	Credential
	Device
	Connection
	Approval
)

// Kinds of things that can be switched off but are no ancestor of a credential:
// they have nodes for their versions, and never a handle.
const (
	Group Kind = iota + 64
	Resource
)

// Named reports whether nodes of the kind have handles, i.e. belong in lin.
func (k Kind) Named() bool { return k >= Person && k <= Approval }

var kindNames = [...]string{"", "person", "service", "session", "grant", "family", "delegation", "run", "client", "agent", "blueprint", "credential", "device", "connection", "approval"}

// String is the kind's name as the API and pages say it.
func (k Kind) String() string {
	switch {
	case int(k) < len(kindNames):
		return kindNames[k]
	case k == Group:
		return "group"
	case k == Resource:
		return "resource"
	}
	return "unknown"
}

// Node is a thing that can be ended, with everything below it.
type Node struct {
	ID       string // typed identifier; its 16 bytes are the node's id
	Kind     Kind
	Version  int64     // moves with every change of the thing; Commit re-checks it
	EndedAt  time.Time // zero while not ended; ending is final
	FrozenAt time.Time // zero while not frozen; freezing can be undone
	Why      string    // of the end or the freeze
}

// Live reports whether the node itself is neither ended nor frozen.
func (n Node) Live() bool { return n.EndedAt.IsZero() && n.FrozenAt.IsZero() }

// New is a node to create with its parents; nouns embed it in their changes.
type New struct {
	ID      string
	Kind    Kind
	Parents []string
}

// End ends a node for ever, and by that everything below it. Ending what has
// ended changes nothing.
type End struct {
	ID  string
	Why string // one of the stable words, e.g. "signed_out", "code_reused"
}

// Freeze stops a node and everything below it until it is thawed.
type Freeze struct {
	ID  string
	Why string
}

// Thaw undoes Freeze; it revives nothing that was ended.
type Thaw struct{ ID string }

// Change marks End as a change.
func (End) Change() {}

// Change marks Freeze as a change.
func (Freeze) Change() {}

// Change marks Thaw as a change.
func (Thaw) Change() {}

// Revocation is one line of the feed before it is cut to an audience: a node
// that was ended, frozen or thawed by the record with number Seq.
type Revocation struct {
	Seq    uint64
	Node   string
	Kind   Kind
	At     time.Time
	Thawed bool
}

// MaxHandles is the most handles a token carries; a longer chain is refused at
// issue (mechanisms C3).
const MaxHandles = 16

// AudienceKey derives K_aud of mechanisms C3 from the lineage key and the
// registered audience.
func AudienceKey(lineageKey []byte, audience string) ([]byte, error) {
	return hkdf.Key(sha256.New, lineageKey, nil, canon.LabelLin+"\x00"+audience, 32)
}

// Handle is a node's name towards one audience: 12 characters.
func Handle(audienceKey []byte, kind Kind, node [16]byte) string {
	m := hmac.New(sha256.New, audienceKey)
	var buf [17]byte
	buf[0] = byte(kind)
	copy(buf[1:], node[:])
	m.Write(buf[:])
	var sum [32]byte
	return base64.RawURLEncoding.EncodeToString(m.Sum(sum[:0])[:9])
}

// Handles is the lin claim: a handle for every distinct node of a named kind, ordered by kind
// and then value. More than MaxHandles is refused.
func Handles(audienceKey []byte, nodes []Node) ([]string, error) {
	type entry struct {
		kind Kind
		h    string
	}
	list := make([]entry, 0, len(nodes))
	for _, n := range nodes {
		if !n.Kind.Named() {
			continue
		}
		b, ok := id.Bytes(n.ID)
		if !ok {
			return nil, problem.New(problem.Invalid, "lineage_id", "A lineage node has no valid identifier.")
		}
		e := entry{n.Kind, Handle(audienceKey, n.Kind, b)}
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	if len(list) > MaxHandles {
		return nil, problem.Newf(problem.Denied, "lineage_too_deep", "This credential would descend from more than %d others.", MaxHandles)
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return strings.Compare(a.h, b.h)
	})
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.h
	}
	return out, nil
}

// FirstEnded is the first node that is not live; ok is false if all are.
func FirstEnded(nodes []Node) (n Node, ok bool) {
	for _, n := range nodes {
		if !n.Live() {
			return n, true
		}
	}
	return Node{}, false
}
