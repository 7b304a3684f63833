// Package api is the role that answers the REST API of openapi.yaml. A request passes the trace, the log and metrics, authentication and the
// validation against the specification, in this order, before its handler runs; every error becomes problem+json in one place, problem.go.
package api
