package pdp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkEvaluations is a request of 200 questions about one token, beside 300 resources
// of others: the whole server, without a socket.
func BenchmarkEvaluations(b *testing.B) {
	p := open(b)
	for i := range 300 {
		p.server(fmt.Sprintf("other-%d", i), fmt.Sprintf("https://other-%d.example.com", i))
	}
	h, err := p.srv.Handler()
	ok(b, err)
	token := p.token(deploy, "use")
	var items []string
	for i := range 200 {
		items = append(items, fmt.Sprintf(`{"resource":{"type":"Cluster","id":"c%d"}}`, i))
	}
	body := fmt.Sprintf(`{"subject":{"type":"person","id":%q},"action":{"name":"look"},"context":{"access_token":%q},"evaluations":[%s]}`, subjectOf(b, token), token, strings.Join(items, ","))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, p.issuer+"/access/v1/evaluations", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.SetBasicAuth("deploy-api", p.secret["deploy-api"])
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || strings.Count(w.Body.String(), `"decision":true`) != 200 {
			b.Fatalf("%d %.300s", w.Code, w.Body)
		}
	}
}

// BenchmarkEvaluation is a request of one question, without a token, beside as many.
func BenchmarkEvaluation(b *testing.B) {
	p := open(b)
	for i := range 300 {
		p.server(fmt.Sprintf("other-%d", i), fmt.Sprintf("https://other-%d.example.com", i))
	}
	h, err := p.srv.Handler()
	ok(b, err)
	body := question("person", "nobody", "look", "")
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, p.issuer+"/access/v1/evaluation", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.SetBasicAuth("deploy-api", p.secret["deploy-api"])
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatalf("%d %.300s", w.Code, w.Body)
		}
	}
}
