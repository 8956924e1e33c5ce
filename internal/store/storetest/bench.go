package storetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
)

// BenchmarkCommit measures what issuing a machine token costs the store: facts
// from the cache, the guards re-checked, the record durable. It runs 1 and 16
// callers with the sequencer beside them, and closes the store.
func BenchmarkCommit(b *testing.B, s *store.Store) {
	r := newRig(b, s)
	r.ctx = context.Background()
	defer s.Close()
	owner := r.person("owner")
	c, sv := r.service(owner.ID, "robot")
	res := r.resource("https://api.example.com")
	refs := act.Refs{Kind: policy.KindService, Actor: sv.ID, Client: c.ID, Resource: res.ID, Scopes: []string{"notes:read"}}
	facts, err := audit.Intern(map[string]any{"action": "token.issue", "client": c.ID})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan struct{})
	q := sequencer(b, s, nil)
	go func() { defer close(ended); q.Run(ctx) }()
	issue := func() error {
		f, err := s.Load(r.ctx, policy.TokenIssue, refs)
		if err != nil {
			return err
		}
		at := time.Now().UTC().Truncate(time.Microsecond)
		rec := audit.Record{ID: id.New(id.Record), Kind: audit.TokenIssued, At: at, Leaf: c.ID, Facts: facts}
		row, err := r.writer.Seal(r.ctx, rec, r.keys)
		if err != nil {
			return err
		}
		return s.Commit(r.ctx, act.Write{At: at, Record: rec.ID, Guard: f.Guard, Row: row})
	}
	b.Run("1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := issue(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("16", func(b *testing.B) {
		b.ReportAllocs()
		var left atomic.Int64
		left.Store(int64(b.N))
		for _, err := range race(16, func(int) error {
			for left.Add(-1) >= 0 {
				if err := issue(); err != nil {
					return err
				}
			}
			return nil
		}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	cancel()
	<-ended
}
