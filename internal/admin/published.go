package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/transparency-dev/formats/proof"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Published reads what the log is published from.
type Published interface {
	// Epoch gives one of the log's epochs; problem.NotFound if there is none.
	Epoch(ctx context.Context, n uint64) (PublishedEpoch, error)
	// Entry gives the entry of a record, the epoch that it is in and its index
	// there, -1 while it has none; problem.NotFound if there is no such record.
	Entry(ctx context.Context, record string) (epoch uint64, index int64, entry []byte, err error)
}

// PublishedEpoch is one epoch of the log.
type PublishedEpoch interface {
	audit.TileStore
	// LastCheckpoint gives the largest signed checkpoint; problem.NotFound if
	// there is none yet.
	LastCheckpoint(ctx context.Context) (size uint64, text []byte, err error)
	// Covering gives the checkpoint that a proof of the entry at an index is made
	// under: one that enough witnesses have cosigned if there is one, else the
	// largest; problem.NotFound if there is none.
	Covering(ctx context.Context, index uint64) (size uint64, text []byte, err error)
	// Rows gives the integrated records from an index on, in order, until fn
	// fails.
	Rows(ctx context.Context, from uint64, fn func(seq uint64, row audit.Row) error) error
}

// readTiles is what reading the tree takes: who may read the log may check it.
var readTiles = operation{scope: ScopeRead, action: policy.AuditRead, kind: audit.TokenRefused}

// published mounts the log as C2SP tlog-tiles has it, below <Issuer>/log/<epoch>
// (mechanisms E10). The checkpoint is public. Tiles and entry bundles are for
// auditors: entries show kinds, times and volumes.
func (a *API) published() {
	a.mux.HandleFunc("GET /log/{epoch}/checkpoint", a.answering(a.checkpoint))
	a.mux.HandleFunc("GET /log/{epoch}/tile/{path...}", a.answering(a.tile))
	register(a, operation{
		id: "prove-record", method: http.MethodGet, path: "/v1/audit/{id}/proof", tag: "audit",
		summary: "Prove that a record is in the log (c2sp.org/tlog-proof@v1)",
		scope:   ScopeRead, action: policy.AuditRead, kind: audit.TokenRefused,
	}, a.prove)
}

// answering serves a handler that leaves its errors to be rendered.
func (a *API) answering(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.Render(w, r, err)
		}
	}
}

var errNoSuchLog = problem.New(problem.NotFound, "not_found", "There is no such part of the log.")

// epoch finds the epoch that a request is about: one that was closed stays
// published.
func (a *API) epoch(r *http.Request) (PublishedEpoch, error) {
	text := r.PathValue("epoch")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return nil, errNoSuchLog
	}
	e, err := a.Tree.Epoch(r.Context(), n)
	if errors.Is(err, problem.NotFound) {
		err = errNoSuchLog
	}
	return e, err
}

func (a *API) checkpoint(w http.ResponseWriter, r *http.Request) error {
	e, err := a.epoch(r)
	if err != nil {
		return err
	}
	_, text, err := e.LastCheckpoint(r.Context())
	if err != nil {
		return err
	}
	publish(w, "text/plain; charset=utf-8", "public, max-age=1", text)
	return nil
}

// tile answers a tile or a bundle. One that is full never changes; the partial
// one of an older tree is cut from what is there now.
func (a *API) tile(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.admit(r, readTiles); err != nil {
		return err
	}
	e, err := a.epoch(r)
	if err != nil {
		return err
	}
	level, n, width, err := audit.ParseTilePath("tile/" + r.PathValue("path"))
	if err != nil || n > 1<<53 { // no log is that long, and its indexes would run over
		return errNoSuchLog
	}
	read := hashes
	if level == audit.EntryLevel {
		read = bundle
	}
	data, err := read(r.Context(), e, level, n, width)
	if err != nil {
		return err
	}
	cache := "private, max-age=60"
	if width == audit.TileWidth {
		cache = "private, max-age=31536000, immutable"
	}
	publish(w, "application/octet-stream", cache, data)
	return nil
}

func hashes(ctx context.Context, e PublishedEpoch, level int, n uint64, width int) ([]byte, error) {
	data, err := e.Tile(ctx, level, n)
	switch {
	case errors.Is(err, audit.ErrNoTile):
		return nil, errNoSuchLog.Because(err)
	case err != nil:
		return nil, err
	case len(data) < width*32:
		return nil, errNoSuchLog
	}
	return data[:width*32], nil
}

var errWide = errors.New("admin: the bundle is complete")

func bundle(ctx context.Context, e PublishedEpoch, _ int, n uint64, width int) ([]byte, error) {
	entries := make([][]byte, 0, width)
	err := e.Rows(ctx, n*audit.TileWidth, func(index uint64, row audit.Row) error {
		if index != n*audit.TileWidth+uint64(len(entries)) {
			return errNoSuchLog // it was pruned: its archive has it
		}
		entries = append(entries, slices.Clone(row.Entry))
		if len(entries) == width {
			return errWide
		}
		return nil
	})
	switch {
	case err == nil:
		return nil, errNoSuchLog
	case !errors.Is(err, errWide):
		return nil, err
	}
	return audit.EntryBundle(entries)
}

func publish(w http.ResponseWriter, typ, cache string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", typ)
	h.Set("Cache-Control", cache)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a caller who is gone needs no answer
}

type (
	proofIn struct {
		ID string `path:"id" maxLength:"64" doc:"The record's id"`
	}
	proofOut struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
)

// prove writes the proof of a record under the newest checkpoint, with the
// record's entry as its extra data: whoever has the log's key needs no more.
func (a *API) prove(ctx context.Context, _ *call, in *proofIn) (*proofOut, error) {
	n, index, entry, err := a.Tree.Entry(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	e, err := a.Tree.Epoch(ctx, n)
	if err != nil {
		return nil, err
	}
	size, text, err := e.Covering(ctx, uint64(max(index, 0)))
	if err != nil && !errors.Is(err, problem.NotFound) {
		return nil, err
	}
	if err != nil || index < 0 || uint64(index) >= size {
		p := problem.New(problem.Unavailable, "not_yet_signed", "The record is not under a signed checkpoint yet.")
		p.RetryAfter = time.Second
		return nil, p
	}
	path, err := audit.Inclusion(ctx, e, size, uint64(index))
	if err != nil {
		return nil, err
	}
	p := proof.TLogProof{Index: uint64(index), Hashes: path, Checkpoint: text, ExtraData: entry}
	return &proofOut{ContentType: "text/plain; charset=utf-8", Body: p.Marshal()}, nil
}
