// Package event defines the domain events that Atlas publishes to Kafka: the versioned envelope, the payload of each event type and
// their JSON Schemas. The API writes them to the outbox, the relay publishes them byte for byte, the consumers decode them.
package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// EnvelopeVersion is the version of the envelope that this package writes.
const EnvelopeVersion = 1

// EntityType names the kind of aggregate that an event is about.
type EntityType string

// The entity types of the contract.
const (
	EntityItem       EntityType = "Item"
	EntityCollection EntityType = "Collection"
	EntityMembership EntityType = "Membership"
	EntityJob        EntityType = "Job"
)

// Type names what happened.
type Type string

// The event types of the contract, version 1.
const (
	CollectionCreated Type = "CollectionCreated"
	CollectionUpdated Type = "CollectionUpdated"
	CollectionDeleted Type = "CollectionDeleted"

	MembershipAdded       Type = "MembershipAdded"
	MembershipRoleChanged Type = "MembershipRoleChanged"
	MembershipRemoved     Type = "MembershipRemoved"

	ItemCreated Type = "ItemCreated"
	ItemUpdated Type = "ItemUpdated"
	ItemDeleted Type = "ItemDeleted"

	JobCreated Type = "JobCreated"
	JobUpdated Type = "JobUpdated"
)

// Entity identifies the aggregate that an event is about.
type Entity struct {
	Type EntityType `json:"type"`
	ID   uuid.UUID  `json:"id"`
	// CollectionID is absent where an event belongs to no collection (a platform job).
	CollectionID *uuid.UUID `json:"collection_id,omitempty"`
}

// Envelope is one domain event as it lies in Kafka. Readers ignore fields that they do not know.
type Envelope struct {
	EventID    uuid.UUID `json:"event_id"`
	EventType  Type      `json:"event_type"`
	Version    int       `json:"version"`
	OccurredAt time.Time `json:"occurred_at"`
	// ActorUserID is nil for events that the system itself caused.
	ActorUserID *uuid.UUID `json:"actor_user_id"`
	// TraceID correlates the event with the request that caused it; nil when there was none.
	TraceID *string         `json:"trace_id"`
	Entity  Entity          `json:"entity"`
	Data    json.RawMessage `json:"data"`
}

// ItemData is the payload of the Item events.
type ItemData struct {
	ItemID       uuid.UUID `json:"item_id"`
	CollectionID uuid.UUID `json:"collection_id"`
	// EntityVersion is the version of the item's row that the event announces.
	EntityVersion int64    `json:"entity_version"`
	ChangedFields []string `json:"changed_fields"`
	SourceURL     *string  `json:"source_url"`
}

// CollectionData is the payload of the Collection events.
type CollectionData struct {
	CollectionID  uuid.UUID `json:"collection_id"`
	EntityVersion int64     `json:"entity_version"`
	ChangedFields []string  `json:"changed_fields"`
	Name          string    `json:"name"`
}

// MembershipData is the payload of the Membership events.
type MembershipData struct {
	MembershipID  uuid.UUID `json:"membership_id"`
	CollectionID  uuid.UUID `json:"collection_id"`
	UserID        uuid.UUID `json:"user_id"`
	EntityVersion int64     `json:"entity_version"`
	Role          string    `json:"role"`
	// PreviousRole is present for MembershipRoleChanged.
	PreviousRole *string `json:"previous_role,omitempty"`
}

// JobData is the payload of the Job events.
type JobData struct {
	JobID         uuid.UUID `json:"job_id"`
	EntityVersion int64     `json:"entity_version"`
	JobType       string    `json:"job_type"`
	State         string    `json:"state"`
	Attempt       int       `json:"attempt"`
	// Held is true while somebody has the job wait.
	Held bool `json:"held,omitempty"`
	// Error is present when the job's last attempt failed.
	Error *string `json:"error,omitempty"`
}

// Origin says who and what caused an event.
type Origin struct {
	ActorUserID *uuid.UUID
	TraceID     *string
}

// New makes an envelope with a fresh time-ordered id. OccurredAt is cut to microseconds, the precision that PostgreSQL keeps, so that the
// event and its audit row agree.
func New(eventType Type, entity Entity, origin Origin, occurredAt time.Time, data any) (Envelope, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Envelope{}, fmt.Errorf("make event id: %w", err)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return Envelope{}, fmt.Errorf("encode data of %s: %w", eventType, err)
	}
	return Envelope{
		EventID: id, EventType: eventType, Version: EnvelopeVersion, OccurredAt: occurredAt.UTC().Truncate(time.Microsecond),
		ActorUserID: origin.ActorUserID, TraceID: origin.TraceID, Entity: entity, Data: raw,
	}, nil
}

// Decode reads an envelope and checks what every consumer relies on. Unknown fields and unknown event types are allowed: the contract grows
// by adding them.
func Decode(b []byte) (Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return Envelope{}, fmt.Errorf("decode envelope: %w", err)
	}
	switch {
	case e.EventID == uuid.Nil:
		return Envelope{}, fmt.Errorf("decode envelope: event_id is missing")
	case e.EventType == "":
		return Envelope{}, fmt.Errorf("decode envelope: event_type is missing")
	case e.Version != EnvelopeVersion:
		return Envelope{}, fmt.Errorf("decode envelope: version %d is not supported, want %d", e.Version, EnvelopeVersion)
	case e.OccurredAt.IsZero():
		return Envelope{}, fmt.Errorf("decode envelope: occurred_at is missing")
	case e.Entity.Type == "" || e.Entity.ID == uuid.Nil:
		return Envelope{}, fmt.Errorf("decode envelope: entity type or id is missing")
	}
	return e, nil
}
