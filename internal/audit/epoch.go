package audit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
)

// Opened is what the first entry of an epoch says (mechanisms E12).
type Opened struct {
	Origin string   // of the epoch that it opens
	Closed string   // origin of the epoch that it closes
	Size   uint64   // what the closed epoch was found to be, which may not be what it had been
	Root   [32]byte // over Size
	Last   string   // the last checkpoint that was known of it, as signed; "" if none was
}

// openedPart is the form of Opened in a part.
type openedPart struct {
	Origin string `json:"origin"`
	Closed string `json:"closed"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	Last   string `json:"last,omitempty"`
}

// Part is what the record says, of nobody.
func (o Opened) Part() Part {
	return Part{Body: openedPart{o.Origin, o.Closed, o.Size, base64.StdEncoding.EncodeToString(o.Root[:]), o.Last}}
}

// OpenedBy reads the first entry of an epoch after the first.
func OpenedBy(row Row, general OpenPart) (Opened, error) {
	var p openedPart
	if row.Kind != LogOpened || json.Unmarshal(general.JSON, &p) != nil || p.Origin == "" || p.Closed == "" {
		return Opened{}, errors.New("audit: the record opens no epoch")
	}
	root, err := base64.StdEncoding.DecodeString(p.Root)
	if err != nil || len(root) != 32 {
		return Opened{}, errors.New("audit: the record opens no epoch")
	}
	return Opened{Origin: p.Origin, Closed: p.Closed, Size: p.Size, Root: [32]byte(root), Last: p.Last}, nil
}
