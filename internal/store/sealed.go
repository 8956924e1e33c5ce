package store

import (
	"context"
	"fmt"
)

// sealedColumns are all columns whose values are sealed under the key-encryption
// key, and how to have one value of each kind: row, kind, value. Where there is no
// statement, whoever owns the column opens it: keyring.Open each key, and
// RecordKeys.OpenOne one of the record keys.
var sealedColumns = []struct{ name, sample string }{
	{"keyring.sealed", ""},
	{"record_key.sealed", ""},
	{ColumnFactor, `SELECT id, kind, sealed FROM factor WHERE id IN (SELECT MIN(id) FROM factor GROUP BY kind) ORDER BY kind`},
	{ColumnWebhook, `SELECT id, '', sealed FROM webhook ORDER BY id LIMIT 1`},
	{ColumnWebhookBefore, `SELECT id, '', sealed_before FROM webhook WHERE sealed_before IS NOT NULL ORDER BY id LIMIT 1`},
}

// The columns that Samples reads.
const (
	ColumnFactor        = "factor.sealed"
	ColumnWebhook       = "webhook.sealed"
	ColumnWebhookBefore = "webhook.sealed_before" // the secret before the newest
)

// Sample is a sealed value, as it lies in the database.
type Sample struct {
	Column string // TABLE.COLUMN
	Row    string // id
	Kind   string // of a factor; else ""
	Value  []byte
}

// Samples gives one sealed value of each kind that there is, for a rehearsal.
func (s *Store) Samples(ctx context.Context) (list []Sample, err error) {
	for _, c := range sealedColumns {
		if c.sample == "" {
			continue
		}
		some, err := all(ctx, s.db, func(row Row) (Sample, error) {
			v := Sample{Column: c.name}
			err := row.Scan(&v.Row, &v.Kind, &v.Value)
			return v, err
		}, c.sample)
		if err != nil {
			return nil, fmt.Errorf("store: read %s: %w", c.name, err)
		}
		list = append(list, some...)
	}
	return list, nil
}

// SealedColumns names all columns whose values are sealed: TABLE.COLUMN.
func SealedColumns() (names []string) {
	for _, c := range sealedColumns {
		names = append(names, c.name)
	}
	return names
}
