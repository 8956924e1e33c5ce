package admin_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/store"
)

const logName = "id.example.com/log/1"

// signs numbers what there is and signs it; the text is the log's key as a
// verifier pins it.
func (r *rig) signs() (vkey string) {
	r.t.Helper()
	key, err := r.ring.LogKey()
	r.ok(err)
	signer, err := audit.NewCheckpointSigner(logName, key)
	r.ok(err)
	q := r.store.Sequencer(store.SequencerOptions{
		Origin: logName, Log: discard, Sign: func(origin string, size uint64, root [32]byte) ([]byte, error) {
			return audit.SignCheckpoint(signer, origin, size, root)
		},
	})
	for more := true; more; {
		more, err = q.Step(r.t.Context())
		r.ok(err)
	}
	vkey, err = note.NewEd25519VerifierKey(logName, key.Public().(ed25519.PublicKey))
	r.ok(err)
	return vkey
}

func (r *rig) get(path string) answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.http.URL+path, nil)
	r.ok(err)
	return r.send(req)
}

// opened reads a checkpoint with what golang.org/x/mod has, not with our code.
func (r *rig) opened(text []byte, vkey string) tlog.Tree {
	r.t.Helper()
	v, err := note.NewVerifier(vkey)
	r.ok(err)
	n, err := note.Open(text, note.VerifierList(v))
	r.ok(err)
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != logName || lines[3] != "" {
		r.t.Fatalf("a checkpoint with %q", lines)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	r.ok(err)
	h, err := tlog.ParseHash(lines[2])
	r.ok(err)
	return tlog.Tree{N: size, Hash: h}
}

// auditor reads tiles over the API, at the paths of C2SP tlog-tiles.
type auditor struct {
	*login
	read int
}

func (a *auditor) Height() int                         { return 8 }
func (a *auditor) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

// place is a tile's path below the log, of fewer than a million tiles.
func place(level string, n int64, width int) string {
	p := fmt.Sprintf("/log/1/tile/%s/%03d", level, n)
	if n >= 1000 {
		p = fmt.Sprintf("/log/1/tile/%s/x%03d/%03d", level, n/1000, n%1000)
	}
	if width < 256 {
		p += fmt.Sprintf(".p/%d", width)
	}
	return p
}

func (a *auditor) ReadTiles(tiles []tlog.Tile) (out [][]byte, err error) {
	for _, t := range tiles {
		b := a.r.want(a.do("GET", place(strconv.Itoa(t.L), t.N, t.W), nil), 200, "")
		a.read++
		out = append(out, b.text)
	}
	return out, nil
}

// An auditor with the log's key and an independent verifier checks the whole
// log: the checkpoint, every tile, every entry.
func TestPublishedLog(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	r.want(r.get("/log/1/checkpoint"), 404, "checkpoint_not_found")
	for range 600 {
		r.seed("")
	}
	vkey := r.signs()
	cp := r.get("/log/1/checkpoint")
	if cp.StatusCode != 200 || cp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || cp.Header.Get("Cache-Control") != "public, max-age=1" {
		t.Fatalf("checkpoint: %d %v", cp.StatusCode, cp.Header)
	}
	r.want(r.get("/log/2/checkpoint"), 404, "not_found")
	tree := r.opened(cp.text, vkey)
	if tree.N < 600 {
		t.Fatalf("a tree of %d", tree.N)
	}

	au := &auditor{login: l}
	hashes := tlog.TileHashReader(tree, au)
	if root, err := tlog.TreeHash(tree.N, hashes); err != nil || root != tree.Hash {
		t.Fatalf("the tiles give %v, %v", root, err)
	}
	if au.read < 2 {
		t.Errorf("%d tiles were read", au.read)
	}
	next := int64(0)
	for n := int64(0); n*256 < tree.N; n++ {
		width := int(min(256, tree.N-n*256))
		a := l.do("GET", place("entries", n, width), nil)
		want := "private, max-age=60"
		if width == 256 {
			want = "private, max-age=31536000, immutable"
		}
		if a.StatusCode != 200 || a.Header.Get("Cache-Control") != want || a.Header.Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("bundle %d: %d %v %s", n, a.StatusCode, a.Header, a.text)
		}
		for b := a.text; len(b) > 0; next++ {
			size := int(binary.BigEndian.Uint16(b))
			leaf := tlog.RecordHash(b[2 : 2+size])
			b = b[2+size:]
			proof, err := tlog.ProveRecord(tree.N, next, hashes)
			if err == nil {
				err = tlog.CheckRecord(proof, tree.N, tree.Hash, next, leaf)
			}
			if err != nil {
				t.Fatalf("entry %d: %v", next, err)
			}
		}
	}
	if next != tree.N {
		t.Errorf("%d entries in a tree of %d", next, tree.N)
	}
}

// Tiles are for administrators, at their one path, and only what there is.
func TestTilesAreForAuditors(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	plain := r.login(r.person("sam"), everything)
	for range 300 {
		r.seed("")
	}
	r.signs()
	for _, path := range []string{"/log/1/tile/0/000", "/log/1/tile/entries/000", "/log/1/tile/entries/000.p/3"} {
		r.want(r.get(path), 401, "token_missing")
		r.want(plain.do("GET", path, nil), 403, "denied")
		bare := *l
		bare.token = l.mint("openid")
		r.want(bare.do("GET", path, nil), 403, "insufficient_scope")
		r.want(l.do("GET", path, nil, header("Authorization", "Bearer "+l.token)), 401, "invalid_token")
		r.want(l.do("GET", path, nil, header("DPoP", l.request("GET", "/log/1/checkpoint", nil).Header.Get("DPoP"))), 401, "invalid_dpop_proof")
		r.want(l.do("GET", path, nil), 200, "")
	}
	full := l.do("GET", "/log/1/tile/0/000", nil).text
	if part := l.do("GET", "/log/1/tile/0/000.p/5", nil).text; len(full) != 256*32 || !bytes.Equal(part, full[:5*32]) {
		t.Errorf("a tile of %d bytes, a part of %d", len(full), len(part))
	}
	for _, path := range []string{
		"/log/2/tile/0/000", "/log/1/tile/0/001", "/log/1/tile/0/001.p/255", "/log/1/tile/entries/001", "/log/1/tile/entries/002.p/1", "/log/1/tile/9/000",
		"/log/1/tile/0/0", "/log/1/tile/0/000.p/0", "/log/1/tile/0/000.p/256", "/log/1/tile/00/000", "/log/1/tile/8/0/000", "/log/1/tile/",
		"/log/1/tile/entries/x072/x057/x594/x037/x927/936", // × 256 is 0 in 64 bits
	} {
		r.want(l.do("GET", path, nil), 404, "not_found")
	}
	r.want(r.get("/log/1"), 404, "not_found")
	req := l.request("POST", "/log/1/tile/0/000", nil)
	r.want(r.send(req), 405, "method_not_allowed")
}

// A proof stands by itself: entry, path and checkpoint, for whoever has the key.
func TestRecordProof(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	first := r.seed("").RecordID
	for range 20 {
		r.seed("")
	}
	r.want(l.do("GET", "/v1/audit/"+first+"/proof", nil), 503, "not_yet_signed")
	vkey := r.signs()
	a := l.do("GET", "/v1/audit/"+first+"/proof", nil)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("proof: %d %v %s", a.StatusCode, a.Header, a.text)
	}
	head, cp, _ := strings.Cut(string(a.text), "\n\n")
	tree := r.opened([]byte(cp), vkey)
	lines := strings.Split(head, "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || len(lines) < 4 {
		t.Fatalf("proof:\n%s", a.text)
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	r.ok(err)
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	r.ok(err)
	var path tlog.RecordProof
	for _, s := range lines[3:] {
		h, err := tlog.ParseHash(s)
		r.ok(err)
		path = append(path, h)
	}
	leaf := tlog.Hash(sha256.Sum256(append([]byte{0}, entry...)))
	r.ok(tlog.CheckRecord(path, tree.N, tree.Hash, index, leaf))
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash([]byte("other"))); err == nil {
		t.Error("the proof proves anything")
	}
	if _, _, err := audit.VerifyProof(a.text, vkey, entry); err != nil {
		t.Errorf("our own verifier: %v", err)
	}
	page := r.want(l.do("GET", "/v1/audit", nil, func(q *http.Request) { q.URL.RawQuery = url.Values{"limit": {"200"}}.Encode() }), 200, "")
	for _, line := range page.items() {
		if line["ref"] == first && line["seq"] != float64(index) {
			t.Errorf("the log says %v, the proof %d", line["seq"], index)
		}
	}
	r.want(l.do("GET", "/v1/audit/"+strings.Replace(first, first[len(first)-4:], "zzzz", 1)+"/proof", nil), 404, "record_not_found")
}
