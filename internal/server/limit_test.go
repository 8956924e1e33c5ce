package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestBodiesThatTrickle: whoever sends requests whose bodies never end does not
// take the places of those who are here, and a body arrives as it was sent.
func TestBodiesThatTrickle(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil { // of those who break off nothing is expected
			_, _ = w.Write(b)
		}
	})
	srv := httptest.NewServer((&Server{}).limit(echo))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	for range maxRequests + 100 {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nhalf", addr); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	for _, body := range []string{"", "grant_type=x", strings.Repeat("long ", 40_000)} {
		res, err := http.Post(srv.URL, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || string(got) != body {
			t.Errorf("a body of %d bytes: %d, %d bytes back, %v", len(body), res.StatusCode, len(got), err)
		}
	}
}

// TestPlacesEnd: what is worked on beyond the places is refused at once, and
// streams have places of their own.
func TestPlacesEnd(t *testing.T) {
	release, working := make(chan struct{}), make(chan struct{}, maxRequests)
	h := (&Server{}).limit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/work" {
			working <- struct{}{}
			<-release
		}
	}))
	defer close(release)
	ask := func(path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	for range maxRequests {
		go ask("/work")
	}
	for range maxRequests {
		<-working
	}
	if got := ask("/"); got != http.StatusServiceUnavailable {
		t.Errorf("one request too many: %d", got)
	}
	if got := ask("/v1/revocations/stream"); got != http.StatusOK {
		t.Errorf("a stream beside them: %d", got)
	}
}
