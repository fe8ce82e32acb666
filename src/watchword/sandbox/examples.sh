# Ada asks for a statement: 403, and x-2fa-approval names a one-time token to clear
ADA='Authorization: Bearer demo-ada'
STATEMENT=$BANK/v1/profiles/435036/balance-statements/200001/statement.json
curl -si -H "$ADA" $STATEMENT

# Ask again, and keep the token
ott() { curl -si -H "$ADA" "$@" | tr -d '\r' | sed -n 's/^x-2fa-approval: //p'; }
OTT=$(ott $STATEMENT); echo $OTT

# What she has to pass
curl -s -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/status

# A code by SMS, and her answer
JSON='Content-Type: application/json'
curl -s -X POST -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/sms/trigger
curl -s -H "$JSON" -d '{"otpCode":"111111"}' -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/sms/verify

# The same call with the token: 200, APPROVED. For 300 seconds more, statements need none
curl -si -H "$ADA" -H "x-2fa-approval: $OTT" $STATEMENT

# A payment asks for two factors of different kinds, every time
PAYMENT=$BANK/v3/profiles/435036/transfers/16521632/payments
OTT=$(ott -H "$JSON" -d '{"type":"BALANCE"}' $PAYMENT); echo $OTT
curl -s -H "$JSON" -d '{"pin":"1234"}' -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/pin/verify
curl -s -X POST -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/sms/trigger
curl -s -H "$JSON" -d '{"otpCode":"111111"}' -H "$ADA" -H "One-Time-Token: $OTT" $BANK/v1/one-time-token/sms/verify
curl -si -H "$JSON" -d '{"type":"BALANCE"}' -H "$ADA" -H "x-2fa-approval: $OTT" $PAYMENT

# It ran once, and the token is spent
curl -s "$BANK/sandbox/executions?ott=$OTT"
curl -s $BANK/sandbox/tokens/$OTT

# Make a user of your own
curl -s -H "$JSON" -d '{"token":"my-token","pin":"4321","phoneNumber":"+6591234567"}' $BANK/sandbox/users

# Move the clock past every lock and code
curl -s -H "$JSON" -d '{"advanceSeconds":901}' $BANK/sandbox/clock

# Back to the start
curl -s -X POST $BANK/sandbox/reset
