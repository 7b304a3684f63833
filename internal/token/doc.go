// Package token mints and verifies Atlas's access tokens: JWTs signed with Ed25519, for users and for the operator's short-lived service calls.
// It also reads and makes the signing key, so that the API and the operator agree on its format.
package token
