package event

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schemas holds the JSON Schemas of the envelope and of each payload, draft 2020-12. They allow unknown fields: the contract grows.
//
//go:embed schema/*.json
var Schemas embed.FS

const envelopeSchema = "schema/envelope.json"

// payloadSchema names the file that describes the data of an event type; ok is false for a type that is not part of the contract.
func payloadSchema(t Type) (file string, ok bool) {
	switch t {
	case ItemCreated, ItemUpdated, ItemDeleted:
		return "schema/item.json", true
	case CollectionCreated, CollectionUpdated, CollectionDeleted:
		return "schema/collection.json", true
	case MembershipAdded, MembershipRoleChanged, MembershipRemoved:
		return "schema/membership.json", true
	case JobCreated, JobUpdated:
		return "schema/job.json", true
	}
	return "", false
}

// Types lists the event types of the contract.
func Types() []Type {
	return []Type{
		CollectionCreated, CollectionUpdated, CollectionDeleted,
		MembershipAdded, MembershipRoleChanged, MembershipRemoved,
		ItemCreated, ItemUpdated, ItemDeleted,
		JobCreated, JobUpdated,
	}
}

// compiled is built on first use: only tests and tools validate, the services decode.
var compiled = sync.OnceValues(compileSchemas)

func compileSchemas() (map[string]*jsonschema.Schema, error) {
	files, err := Schemas.ReadDir("schema")
	if err != nil {
		return nil, fmt.Errorf("list event schemas: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	out := make(map[string]*jsonschema.Schema, len(files))
	for _, f := range files {
		name := "schema/" + f.Name()
		raw, err := Schemas.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read event schema: %w", err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("decode event schema %s: %w", name, err)
		}
		if err := compiler.AddResource(name, doc); err != nil {
			return nil, fmt.Errorf("add event schema %s: %w", name, err)
		}
		if out[name], err = compiler.Compile(name); err != nil {
			return nil, fmt.Errorf("compile event schema %s: %w", name, err)
		}
	}
	return out, nil
}

// Validate checks an encoded event against the schema of the envelope and, when its type is part of the contract, against the schema of
// its data.
func Validate(b []byte) error {
	schemas, err := compiled()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("decode event: %w", err)
	}
	if err := schemas[envelopeSchema].Validate(doc); err != nil {
		return fmt.Errorf("validate envelope: %w", err)
	}
	var head struct {
		EventType Type            `json:"event_type"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("decode event: %w", err)
	}
	file, known := payloadSchema(head.EventType)
	if !known {
		return nil
	}
	data, err := jsonschema.UnmarshalJSON(bytes.NewReader(head.Data))
	if err != nil {
		return fmt.Errorf("decode data of %s: %w", head.EventType, err)
	}
	if err := schemas[file].Validate(data); err != nil {
		return fmt.Errorf("validate data of %s: %w", head.EventType, err)
	}
	return nil
}
