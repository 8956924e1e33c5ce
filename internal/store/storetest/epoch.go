package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

const secondOrigin = "id.example.com/log/2"

// testEpochs closes an epoch of the log and opens the next: what waits for a number
// follows the record that opens it, each epoch verifies by itself, and the old name
// is never signed again (mechanisms E12).
func testEpochs(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: oldIssuer, CreatedAt: start}})
	for range 299 { // more than a tile
		r.do()
	}
	settle(t, r)
	old := whole(t, r)
	var waiting []string
	for range 5 { // committed, and not in the tree yet
		waiting = append(waiting, r.do())
	}
	stale := sequencer(t, r.s, func(o *store.SequencerOptions) { o.Lease = time.Millisecond })

	open := store.OpenEpoch{After: 1, Size: old.Size, N: 2, Origin: secondOrigin}
	wrong := open
	wrong.Size--
	refused(t, r.try(wrong), problem.Conflict, "epoch_moved")
	wrong = open
	wrong.N = 1
	refused(t, r.try(wrong), problem.Conflict, "epoch_moved")
	w := r.write(audit.LogOpened, "", nil, open)
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Fatal(err)
	}
	refused(t, r.try(open), problem.Conflict, "epoch_moved")
	after := r.do()

	if _, err := stale.Step(r.ctx); err == nil || stale.Fault() != nil && errors.As(stale.Fault(), new(*store.Forked)) {
		t.Errorf("a process of the old epoch goes on: %v", err)
	}
	time.Sleep(5 * time.Millisecond) // the other's lease runs out
	q := sequencer(t, r.s, func(o *store.SequencerOptions) { o.Origin, o.Epoch = secondOrigin, 2 })
	ctx, stop := context.WithCancel(r.ctx)
	var running sync.WaitGroup
	running.Go(func() { q.Run(ctx) })
	within, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	err := q.CheckpointNow(within, after)
	stop()
	running.Wait()
	if err != nil {
		t.Fatal(err, q.Fault())
	}

	list := must(r.s.Epochs(r.ctx))(t)
	if len(list) != 2 || list[0].Origin != origin || list[0].End != old.Size || list[1].Base != old.Size || list[1].Origin != secondOrigin || !list[1].Last || list[1].N != 2 {
		t.Fatalf("epochs: %+v", list)
	}
	first := must(audit.Verify(r.ctx, r.s.EpochLog(list[0]), audit.Options{VKey: vkey(t)}))(t)
	if !first.OK() || first.Size != old.Size || first.Root != old.Root || first.Covered != old.Size {
		t.Errorf("the first epoch: %+v %v", first, first.Lines())
	}
	var ids []string
	log := r.s.EpochLog(list[1])
	rep := must(audit.Verify(r.ctx, log, audit.Options{VKey: vkeyOf(t, secondOrigin), Each: func(_ uint64, row audit.Row) error {
		ids = append(ids, row.ID)
		return nil
	}}))(t)
	if !rep.OK() || rep.Size != 7 || len(ids) != 7 || ids[0] != w.Record || ids[1] != waiting[0] || ids[6] != after {
		t.Errorf("the second epoch: %+v %v; opened by %s, then %v", rep, rep.Lines(), w.Record, ids)
	}
	if size, note, err := r.s.LastCheckpoint(r.ctx); err != nil || size > 7 || string(note[:len(secondOrigin)]) != secondOrigin {
		t.Errorf("the newest checkpoint is of %d, %q, %v", size, note, err)
	}
	if c := must(r.s.Counts(r.ctx))(t); c.Pending != 0 || c.Records != int64(old.Size)+7 || c.Signed < int64(old.Size)+6 {
		t.Errorf("counts: %+v", c)
	}
	if d := must(r.s.Deployment(r.ctx))(t); d.Epoch != 2 {
		t.Errorf("the deployment is in epoch %d", d.Epoch)
	}
	n := 0
	if err := r.s.Records(r.ctx, 0, func(seq uint64, _ audit.Row) error {
		if seq != uint64(n) {
			t.Errorf("record %d is number %d", n, seq)
		}
		n++
		return nil
	}); err != nil || n != int(old.Size)+7 {
		t.Errorf("%d records of all epochs, %v", n, err)
	}
}

// testKnown: what is kept outside decides whether the log may be signed.
func testKnown(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	for range 20 {
		r.do()
	}
	settle(t, r)
	size, root, err := r.s.Head(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.do()
	bad := root
	bad[3] ^= 1
	for name, c := range map[string]struct {
		known  store.KnownCheckpoint
		forked bool
	}{
		"extended":        {store.KnownCheckpoint{Epoch: 1, Size: size, Root: root}, false},
		"empty":           {store.KnownCheckpoint{Epoch: 1, Root: audit.EmptyRoot}, false},
		"another":         {store.KnownCheckpoint{Epoch: 1, Size: size, Root: bad}, true},
		"ahead":           {store.KnownCheckpoint{Epoch: 1, Size: size + 9, Root: root}, true},
		"of a later time": {store.KnownCheckpoint{Epoch: 2, Size: 1, Root: root}, true},
	} {
		q := sequencer(t, r.s, func(o *store.SequencerOptions) {
			o.Lease = time.Millisecond
			o.Known = func(context.Context) ([]store.KnownCheckpoint, error) { return []store.KnownCheckpoint{c.known}, nil }
		})
		time.Sleep(5 * time.Millisecond)
		_, err := q.Step(r.ctx)
		var f *store.Forked
		if errors.As(err, &f) != c.forked || !c.forked && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.s.CompareKnown(r.ctx, c.known); errors.As(err, &f) != c.forked || !c.forked && err != nil {
			t.Errorf("%s, compared: %v", name, err)
		}
	}
	q := sequencer(t, r.s, func(o *store.SequencerOptions) { o.Lease = time.Millisecond })
	time.Sleep(5 * time.Millisecond)
	q.Refuse(&store.Forked{What: "a witness says so"})
	before, _, _ := r.s.LastCheckpoint(r.ctx)
	r.do()
	if _, err := q.Step(r.ctx); err == nil || q.Fault() == nil {
		t.Error("it signs on after it was told to stop")
	}
	if now, _, _ := r.s.LastCheckpoint(r.ctx); now != before {
		t.Errorf("it signed %d", now)
	}
}
