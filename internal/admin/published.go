package admin

import (
	"bytes"
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
	audit.TileStore
	// LastCheckpoint gives the largest signed checkpoint; problem.NotFound if
	// there is none yet.
	LastCheckpoint(ctx context.Context) (size uint64, text []byte, err error)
	// Rows gives the integrated records from an index on, in order, until fn
	// fails.
	Rows(ctx context.Context, from uint64, fn func(seq uint64, row audit.Row) error) error
	// Entry gives the entry of a record and its index, -1 while it has none;
	// problem.NotFound if there is no such record.
	Entry(ctx context.Context, record string) (index int64, entry []byte, err error)
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

// ours refuses logs of other epochs.
func (a *API) ours(r *http.Request) error {
	if r.PathValue("epoch") != strconv.FormatUint(a.Epoch, 10) {
		return errNoSuchLog
	}
	return nil
}

func (a *API) checkpoint(w http.ResponseWriter, r *http.Request) error {
	if err := a.ours(r); err != nil {
		return err
	}
	_, text, err := a.latest(r.Context())
	if err != nil {
		return err
	}
	publish(w, "text/plain; charset=utf-8", "public, max-age=1", text)
	return nil
}

// latest is the newest checkpoint, if it is of this epoch. The rest of its origin
// is the issuer's name when the log began.
func (a *API) latest(ctx context.Context) (size uint64, text []byte, err error) {
	size, text, err = a.Tree.LastCheckpoint(ctx)
	if origin, _, _ := bytes.Cut(text, []byte("\n")); err == nil && !bytes.HasSuffix(origin, []byte("/log/"+strconv.FormatUint(a.Epoch, 10))) {
		err = errNoSuchLog
	}
	return size, text, err
}

// tile answers a tile or a bundle. One that is full never changes; the partial
// one of an older tree is cut from what is there now.
func (a *API) tile(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.admit(r, readTiles); err != nil {
		return err
	}
	if err := a.ours(r); err != nil {
		return err
	}
	level, n, width, err := audit.ParseTilePath("tile/" + r.PathValue("path"))
	if err != nil || n > 1<<53 { // no log is that long, and its indexes would run over
		return errNoSuchLog
	}
	read := a.hashes
	if level == audit.EntryLevel {
		read = a.bundle
	}
	data, err := read(r.Context(), level, n, width)
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

func (a *API) hashes(ctx context.Context, level int, n uint64, width int) ([]byte, error) {
	data, err := a.Tree.Tile(ctx, level, n)
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

func (a *API) bundle(ctx context.Context, _ int, n uint64, width int) ([]byte, error) {
	entries := make([][]byte, 0, width)
	err := a.Tree.Rows(ctx, n*audit.TileWidth, func(_ uint64, row audit.Row) error {
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
	index, entry, err := a.Tree.Entry(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	size, text, err := a.latest(ctx)
	if err != nil && !errors.Is(err, problem.NotFound) {
		return nil, err
	}
	if err != nil || index < 0 || uint64(index) >= size {
		p := problem.New(problem.Unavailable, "not_yet_signed", "The record is not under a signed checkpoint yet.")
		p.RetryAfter = time.Second
		return nil, p
	}
	path, err := audit.Inclusion(ctx, a.Tree, size, uint64(index))
	if err != nil {
		return nil, err
	}
	p := proof.TLogProof{Index: uint64(index), Hashes: path, Checkpoint: text, ExtraData: entry}
	return &proofOut{ContentType: "text/plain; charset=utf-8", Body: p.Marshal()}, nil
}
