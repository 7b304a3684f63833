package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RegistrationClosed is the value of auth.registration with which admins alone create accounts.
const RegistrationClosed = "Closed"

// AuthSpec says where the API's signing key and the first admin come from, and who may sign up.
//
// +kubebuilder:validation:XValidation:rule=`(has(self.accessTokenLifetime) && !self.accessTokenLifetime.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')) || (has(self.refreshTokenLifetime) && !self.refreshTokenLifetime.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')) || (has(self.accessTokenLifetime) ? duration(self.accessTokenLifetime) : duration('15m')) <= (has(self.refreshTokenLifetime) ? duration(self.refreshTokenLifetime) : duration('720h'))`,message="refreshTokenLifetime (720h when it is not set) is shorter than accessTokenLifetime (15m when it is not set): raise it, or lower accessTokenLifetime"
// +kubebuilder:validation:XValidation:rule="!has(self.signingKeyRotation) || !has(self.signingKeySecretRef)",message="signingKeyRotation is for a generated key only: remove it, or signingKeySecretRef"
// +kubebuilder:validation:XValidation:rule=`!has(self.signingKeyRotation) || !has(self.accessTokenLifetime) || !self.accessTokenLifetime.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || !self.signingKeyRotation.interval.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self.signingKeyRotation.interval) >= duration(self.accessTokenLifetime)`,message="signingKeyRotation.interval is shorter than accessTokenLifetime, and tokens would become invalid before their time: raise it, or lower accessTokenLifetime"
// +kubebuilder:validation:XValidation:rule="!has(self.acceptedKeySecretRef) || has(self.signingKeySecretRef)",message="acceptedKeySecretRef is for a signing key of your own: remove it, the operator rotates a generated key by itself"
type AuthSpec struct {
	// signingKeySecretRef is the key of a Secret that holds the Ed25519 private key (PEM, PKCS #8) that access tokens are
	// signed with. When it is not set, the operator makes a key once in the Secret <stack>-auth under signing-key.pem.
	// That Secret outlives the stack, so that a stack created again on the same database goes on working.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="signingKeySecretRef.name is empty: name a Secret in the stack's namespace, or remove signingKeySecretRef to have a key generated"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="signingKeySecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="signingKeySecretRef can't be optional: remove it to have one generated"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="signingKeySecretRef.key is empty: name the key of the Secret that has the value"
	SigningKeySecretRef *corev1.SecretKeySelector `json:"signingKeySecretRef,omitempty"`

	// acceptedKeySecretRef is the key of a Secret with another Ed25519 private key, whose tokens are accepted too. To change a signing key of your own
	// without a failed request: name the new key here and wait until the stack is Ready, then exchange the two and wait, then remove the old one.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="acceptedKeySecretRef.name is empty: name a Secret in the stack's namespace, or remove acceptedKeySecretRef"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="acceptedKeySecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="acceptedKeySecretRef can't be optional: remove it to accept the signing key alone"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="acceptedKeySecretRef.key is empty: name the key of the Secret that has the value"
	AcceptedKeySecretRef *corev1.SecretKeySelector `json:"acceptedKeySecretRef,omitempty"`

	// signingKeyRotation has the operator replace a generated signing key on a schedule. No token becomes invalid by it before its time.
	// +optional
	SigningKeyRotation *SigningKeyRotationSpec `json:"signingKeyRotation,omitempty"`

	// accessTokenLifetime is how long an access token is valid, 15m for example. The release's own default applies when it is not set.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1s, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1s')`,message="accessTokenLifetime is shorter than a second, and nobody could use a token: raise it, or remove it for the default of 15m"
	AccessTokenLifetime *metav1.Duration `json:"accessTokenLifetime,omitempty"`

	// refreshTokenLifetime is how long a session lasts without being refreshed, 720h for example. The release's own default applies when it is not set.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1s, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1s')`,message="refreshTokenLifetime is shorter than a second, and nobody could stay signed in: raise it, or remove it for the default of 720h"
	RefreshTokenLifetime *metav1.Duration `json:"refreshTokenLifetime,omitempty"`

	// registration says whether anybody may create an account, or admins only.
	// +optional
	// +default="Open"
	// +kubebuilder:validation:Enum=Open;Closed
	Registration string `json:"registration,omitempty"`

	// admin is the platform admin that the migration ensures.
	// +optional
	// +default={}
	Admin AdminSpec `json:"admin,omitzero"`
}

// AdminSpec is the platform admin that the migration ensures.
type AdminSpec struct {
	// email is the admin's login.
	// +optional
	// +default="admin@atlas.local"
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[^@\s()<>,;:"\[\]\\.]+(\.[^@\s()<>,;:"\[\]\\.]+)*@[^@\s()<>,;:"\[\]\\.]+(\.[^@\s()<>,;:"\[\]\\.]+)*$')`,message="admin.email is not an e-mail address, admin@example.com for example"
	Email string `json:"email,omitempty"`

	// passwordSecretRef is the key of a Secret that holds the admin's password. When it is not set, the operator makes a
	// password once in the Secret <stack>-admin under password, beside email. That Secret outlives the stack, so that a
	// stack created again on the same database keeps its admin.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="passwordSecretRef.name is empty: name a Secret in the stack's namespace, or remove passwordSecretRef to have a password generated"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="passwordSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="passwordSecretRef can't be optional: remove it to have one generated"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="passwordSecretRef.key is empty: name the key of the Secret that has the value"
	PasswordSecretRef *corev1.SecretKeySelector `json:"passwordSecretRef,omitempty"`
}

// SigningKeyRotationSpec replaces the signing key on a schedule.
type SigningKeyRotationSpec struct {
	// interval is the age at which the key is replaced, 720h for example.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1h, such as 24h or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1h')`,message="signingKeyRotation.interval is shorter than 1h: tokens would become invalid before their time"
	Interval metav1.Duration `json:"interval"`
}
