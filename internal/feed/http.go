package feed

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2" //house:allow jitter between connections, nothing secret
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// Mount puts the feed's routes on a mux; render writes errors.
func (h *Hub) Mount(mux *http.ServeMux, render web.Renderer) {
	mux.Handle("GET /v1/revocations/stream", web.Handler(h.stream).With(render))
	mux.Handle("GET /v1/revocations/snapshot", web.Handler(h.snapshot).With(render))
	mux.Handle("POST /v1/revocations/ack", web.Handler(h.ack).With(render))
}

// entitled authenticates the caller and gives the registered spelling of the
// audience it asks for.
func (h *Hub) entitled(r *http.Request) (Caller, string, error) {
	c, err := h.cfg.Authenticate(r)
	if err != nil {
		return Caller{}, "", err
	}
	asked := r.URL.Query()["aud"]
	if len(asked) != 1 {
		return Caller{}, "", problem.New(problem.Invalid, "invalid_request", "Exactly one aud is needed.")
	}
	if slices.Contains(c.Audiences, asked[0]) {
		return c, asked[0], nil
	}
	want, err := resource.Canonical(asked[0])
	if err == nil {
		for _, a := range c.Audiences {
			if have, err := resource.Canonical(a); err == nil && have == want {
				return c, a, nil
			}
		}
	}
	// The same whether or not there is such a resource.
	return Caller{}, "", problem.New(problem.Denied, "feed_audience", "This client is not an enforcement point of that resource.")
}

// gone is the one answer that no problem kind stands for.
func gone(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/problem+json")
	return web.JSON(w, http.StatusGone, map[string]any{
		"type": "about:blank", "title": http.StatusText(http.StatusGone), "status": http.StatusGone, "code": errGone.Code, "detail": errGone.Detail, "ref": web.RecordOf(r).Ref(),
	})
}

// stream serves frames as server-sent events until the caller leaves, does not
// keep up, or has to authenticate again.
func (h *Hub) stream(w http.ResponseWriter, r *http.Request) error {
	c, aud, err := h.entitled(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	epoch, err1 := strconv.ParseInt(q.Get("epoch"), 10, 64)
	after, err2 := strconv.ParseUint(q.Get("after"), 10, 63)
	if err1 != nil || err2 != nil || len(q["epoch"]) != 1 || len(q["after"]) != 1 {
		return problem.New(problem.Invalid, "invalid_request", "epoch and after are needed, once each, as decimal numbers.")
	}
	s, leave, err := h.subscribe(r.Context(), c, aud, epoch, after)
	if errors.Is(err, errGone) {
		return gone(w, r)
	}
	if err != nil {
		return err
	}
	defer leave()
	hd := w.Header()
	hd.Set("Content-Type", "text/event-stream")
	hd.Set("Cache-Control", "no-store")
	hd.Set("X-Accel-Buffering", "no") // nginx would hold frames back
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	end := time.NewTimer(life(rand.Uint32()))
	defer end.Stop()
	for {
		select {
		case f := <-s.frames:
			// The server's write time limit is for answers; a stream has one for
			// each frame. Not every writer can set it, and then none applies.
			_ = out.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := io.WriteString(w, "data: "+f+"\n\n"); err != nil {
				return nil // gone; the headers are out
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		case <-s.gone:
			return nil
		case <-end.C:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// snapshot serves all live entries as one compressed frame.
func (h *Hub) snapshot(w http.ResponseWriter, r *http.Request) error {
	_, aud, err := h.entitled(r)
	if err != nil {
		return err
	}
	s, err := h.snapshotOf(r.Context(), aud)
	if err != nil {
		return err
	}
	hd := w.Header()
	hd.Set("Content-Type", "application/jwt")
	hd.Set("Content-Encoding", "gzip")
	hd.Set("Cache-Control", "no-store")
	hd.Set("Content-Length", strconv.Itoa(len(s.body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(6 * writeTime))
	_, _ = w.Write(s.body)
	return nil
}

// ack notes what an enforcement point has applied.
func (h *Hub) ack(w http.ResponseWriter, r *http.Request) error {
	c, err := h.cfg.Authenticate(r)
	if err != nil {
		return err
	}
	var body struct {
		Epoch *int64  `json:"epoch"`
		Seq   *uint64 `json:"seq"`
		Mark  string  `json:"mark"`
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	if !strings.EqualFold(strings.TrimSpace(media), "application/json") || dec.Decode(&body) != nil || body.Epoch == nil || body.Seq == nil {
		return problem.New(problem.Invalid, "invalid_request", `The body is JSON: {"epoch": …, "seq": …}.`)
	}
	if len(c.Audiences) == 0 {
		return problem.New(problem.Denied, "feed_audience", "This client is not an enforcement point of any resource.")
	}
	if body.Mark != "" && h.cfg.Seen != nil {
		if err := h.cfg.Seen(r.Context(), body.Mark); err != nil {
			return err
		}
	}
	if *body.Epoch != h.cfg.Epoch {
		return problem.New(problem.Conflict, "feed_epoch", "That is another epoch.")
	}
	h.acks.heard(c, *body.Seq) // perhaps more than we have read: another replica told it
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
