// Package notes is the sample API of the sandbox, and an example of a resource
// server: reading needs a scope, rotating the key needs a phishing-resistant
// proof not older than five minutes, and who may delete a note, or add a long one, is
// decided by policies (the folder policies). Everything about tokens, and asking policies, is the SDK's.
package notes

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	countersign "github.com/countersign-dev/countersign"
)

// Note is a note.
type Note struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

// API is the sample API: some notes, and a key. It keeps them in memory.
type API struct {
	mu    sync.Mutex
	notes []Note
	last  int // number of the newest note
	key   string
}

// New makes the API with a few notes.
func New() *API {
	return &API{
		notes: []Note{{1, "Countersign asks for proof only when it matters."}, {2, "Try: countersign call POST …/keys/rotate"}, {3, "Try: countersign call DELETE …/notes/3"}},
		last:  3, key: rand.Text(),
	}
}

// Handler serves the API behind the verifier.
func (a *API) Handler(v *countersign.Verifier) http.Handler {
	mux := http.NewServeMux()
	// It tells of nobody; still, an API that the world reaches serves it on a listener of its operators'.
	mux.Handle("GET /metrics", countersign.MetricsHandler(v))
	v.MountMetadata(mux, countersign.ResourceMetadata{Name: "Sample notes", Scopes: []string{"notes:read", "notes:write", "keys:rotate"}})
	mux.Handle("GET /notes", v.Protect(http.HandlerFunc(a.list), countersign.RequireScope("notes:read")))
	mux.Handle("POST /notes", v.Protect(http.HandlerFunc(a.add), countersign.RequireScope("notes:write")))
	mux.Handle("DELETE /notes/{id}", v.Protect(http.HandlerFunc(a.remove), countersign.RequireScope("notes:write")))
	mux.Handle("POST /keys/rotate", v.Protect(http.HandlerFunc(a.rotate),
		countersign.RequireScope("keys:rotate"),
		countersign.RequireAssurance("phr"),
		countersign.RequireFresh(5*time.Minute),
		countersign.Sensitive()))
	return mux
}

func (a *API) list(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"notes": a.notes})
}

func (a *API) add(w http.ResponseWriter, r *http.Request) {
	var n Note
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&n); err != nil || n.Text == "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": `send {"text":"…"}`})
		return
	}
	draft := countersign.Resource{Type: "Draft", ID: "new", Properties: map[string]any{"length": utf8.RuneCountInString(n.Text)}}
	if err := countersign.Authorize(r.Context(), "note.add", draft); err != nil {
		countersign.Refuse(w, r, err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	n.ID = a.last
	a.notes = append(a.notes, n)
	answer(w, http.StatusCreated, n)
}

// remove deletes a note if the policies allow it. They are asked before it is looked up:
// whoever may not delete it does not learn whether it is there.
func (a *API) remove(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := countersign.Authorize(r.Context(), "note.delete", countersign.Resource{Type: "Note", ID: id}); err != nil {
		countersign.Refuse(w, r, err) // where more proof would do, it says which
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.notes, func(n Note) bool { return strconv.Itoa(n.ID) == id })
	if at < 0 {
		answer(w, http.StatusNotFound, map[string]string{"error": "there is no such note"})
		return
	}
	a.notes = slices.Delete(a.notes, at, at+1)
	answer(w, http.StatusOK, map[string]string{"deleted": id})
}

func (a *API) rotate(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = rand.Text()
	answer(w, http.StatusOK, map[string]string{"key": a.key, "rotated_at": time.Now().UTC().Format(time.RFC3339)})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
