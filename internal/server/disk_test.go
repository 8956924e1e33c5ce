package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/config"
)

// While the reserve is in use no tokens are issued and readiness says why; what
// else there is goes on. When there is room again, so do tokens.
func TestDiskFullSparesTheReserve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := filepath.Join(dir, "countersign.db")
	cfg, err := config.Parse([]byte("issuer: http://localhost:18080\nlisten: {address: \"127.0.0.1:18080\"}\ndata_dir: \""+dir+"\"\ndevelopment: true\ndatabase: {sqlite: \""+db+"\"}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db+".reserve", nil, 0o600); err != nil { // as a full disk leaves it
		t.Fatal(err)
	}
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true, Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s, err := New(st)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	s.ready.Store(true)
	ask := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://localhost:18080"+path, strings.NewReader("grant_type=client_credentials&client_id=x&client_secret=y"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "127.0.0.1:1234"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := ask(http.MethodPost, "/oauth/token")
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"temporarily_unavailable"`) || w.Header().Get("Retry-After") == "" {
		t.Errorf("a full disk: %d %s", w.Code, w.Body)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("readiness: %v", err)
	}
	metric := func() string {
		w := httptest.NewRecorder()
		s.Operations().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		_, rest, _ := strings.Cut(w.Body.String(), "\ncountersign_disk_reserve ")
		return rest[:min(1, len(rest))]
	}
	if m := metric(); m != "0" {
		t.Errorf("the metric is %q", m)
	}
	if w := ask(http.MethodGet, "/.well-known/openid-configuration"); w.Code != 200 {
		t.Errorf("metadata: %d %s", w.Code, w.Body)
	}
	if err := st.Store.TendReserve(); err != nil {
		t.Fatal(err)
	}
	if w := ask(http.MethodPost, "/oauth/token"); w.Code != 401 {
		t.Errorf("with room again: %d %s", w.Code, w.Body)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("readiness: %v", err)
	}
	if m := metric(); m != "1" {
		t.Errorf("the metric is %q", m)
	}
}
