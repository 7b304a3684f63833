package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// newEvent makes the envelope of something that the caller did.
func newEvent(ctx context.Context, eventType event.Type, entity event.Entity, at time.Time, data any) (event.Envelope, error) {
	called := callOf(ctx)
	origin := event.Origin{ActorUserID: called.principal.actor()}
	if entity.CollectionID != nil && !slices.Contains(called.collections, *entity.CollectionID) {
		called.collections = append(called.collections, *entity.CollectionID)
	}
	if t := telemetry.TraceFrom(ctx); t.ID != "" {
		origin.TraceID = &t.ID
	}
	return event.New(eventType, entity, origin, at, data)
}

// emit is the last statement of a write's transaction.
func emit(ctx context.Context, q *db.Queries, eventType event.Type, entity event.Entity, at time.Time, data any) error {
	envelope, err := newEvent(ctx, eventType, entity, at, data)
	if err != nil {
		return err
	}
	return postgres.WriteEvent(ctx, q, envelope)
}

func itemEntity(id, collection uuid.UUID) event.Entity {
	return event.Entity{Type: event.EntityItem, ID: id, CollectionID: &collection}
}

func collectionEntity(id uuid.UUID) event.Entity {
	return event.Entity{Type: event.EntityCollection, ID: id, CollectionID: &id}
}

func membershipEntity(id, collection uuid.UUID) event.Entity {
	return event.Entity{Type: event.EntityMembership, ID: id, CollectionID: &collection}
}

func newID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make an id: %w", err)
	}
	return id, nil
}
