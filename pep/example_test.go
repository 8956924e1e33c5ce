package pep_test

import (
	"context"
	"net/http"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/pep"
)

// Deploying is decided by the policies that the issuer gives this API, within it.
func ExampleEngine() {
	serve := func(ctx context.Context, mux *http.ServeMux, deploy http.Handler, secret string) error {
		v, err := countersign.New(ctx, countersign.Config{
			Issuer:   "https://id.example.com",
			Audience: "https://deploy.example.com",
			Client:   countersign.ClientAuth{ID: "deploy-api", Secret: secret},
			Policies: pep.Engine(),
		})
		if err != nil {
			return err
		}
		mux.Handle("POST /clusters/{name}/deploy", v.Protect(deploy,
			countersign.RequireScope("deploy"),
			countersign.RequireAction("cluster.deploy", func(r *http.Request) countersign.Resource {
				return countersign.Resource{Type: "Cluster", ID: r.PathValue("name")}
			})))
		return nil
	}
	_ = serve
}
